"""Training the heads: pairs a second, ours beside PyTorch loops, in one process.

`python -m experiments.benchmarks.heads`. The same heads (the first prototype's, 256
wide, and the default residual ones, 512 wide), the same symmetric InfoNCE, AdamW,
features in memory (2,048 numbers a picture, 768 a caption). Peers:
an idiomatic PyTorch loop that indexes tensors (batch 256), and a DataLoader over a
Dataset (batch 16, the first prototype's batch). Rounds alternate, so that both see
the same machine; the ratio is the median of the rounds' ratios.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from functools import partial

import numpy as np
import torch
import typer
from experiments.benchmarks.rounds import alternate, rate, ratio
from torch import nn

IMAGE_DIM, TEXT_DIM, PICTURES = 2048, 768, 16384


class ResidualHead(nn.Module):
    """The default head of `twinlens.heads`, in PyTorch."""

    def __init__(self, dim: int, hidden: int = 512, embedding_dim: int = 256):
        super().__init__()
        self.enter = nn.Linear(dim, hidden)
        self.block = nn.Sequential(
            nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, hidden)
        )
        self.project = nn.Linear(hidden, embedding_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(n, dim)` features to `(n, embedding_dim)` unit vectors."""
        x = self.enter(x)
        return nn.functional.normalize(self.project(x + self.block(x)), dim=-1)


class PrototypeHead(nn.Module):
    """The first prototype's head, in PyTorch."""

    def __init__(self, dim: int, embedding_dim: int = 256):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, embedding_dim),
            nn.GELU(),
            nn.LayerNorm(embedding_dim),
            nn.Linear(embedding_dim, embedding_dim),
            nn.Dropout(0.1),
            nn.LayerNorm(embedding_dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(n, dim)` features to `(n, embedding_dim)` unit vectors."""
        return nn.functional.normalize(self.layers(x), dim=-1)


TORCH_HEADS = {"prototype": PrototypeHead, "residual": ResidualHead}


class TorchTrainer:
    """Two heads, a learned scale, AdamW."""

    def __init__(self, images: np.ndarray, texts: np.ndarray, form: str):
        self.images, self.texts = torch.from_numpy(images), torch.from_numpy(texts)
        self.image_head = TORCH_HEADS[form](IMAGE_DIM)
        self.text_head = TORCH_HEADS[form](TEXT_DIM)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))
        weights = [*self.image_head.parameters(), *self.text_head.parameters()]
        self.optimizer = torch.optim.AdamW([*weights, self.log_scale], lr=1e-3)

    def step(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        """One update on a batch of pairs."""
        scale = self.log_scale.exp().clamp(max=100)
        logits = scale * self.image_head(images) @ self.text_head(texts).T
        target = torch.arange(len(logits))
        cross_entropy = nn.functional.cross_entropy
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def indexed(self, batch_size: int, pairs: int) -> None:
        """The loop that slices tensors by a permutation."""
        order = torch.randperm(PICTURES)[:pairs]
        for rows in order.split(batch_size):
            self.step(self.images[rows], self.texts[rows])

    def loaded(self, batch_size: int, pairs: int) -> None:
        """The loop over a DataLoader."""
        data = torch.utils.data.TensorDataset(self.images[:pairs], self.texts[:pairs])
        loader = torch.utils.data.DataLoader(data, batch_size, shuffle=True)
        for images, texts in loader:
            self.step(images, texts)


def our_trainer(images: np.ndarray, texts: np.ndarray, form: str):
    """Ours on the same features."""
    from twinlens.config import HeadSettings, LossSettings, Phase1Settings
    from twinlens.training import HeadTrainer, PairFeatures
    from twinlens.training.build import build_heads, build_loss, build_optimizer

    rows = np.arange(PICTURES)
    pairs = PairFeatures(images, texts, rows, rows, np.arange(PICTURES + 1), rows)
    loss = build_loss(LossSettings())
    heads = build_heads(IMAGE_DIM, TEXT_DIM, HeadSettings(form=form), loss, seed=0)
    optimizer = build_optimizer(Phase1Settings(), 64)
    return HeadTrainer(heads, loss, optimizer), pairs


def run_ours(trainer, pairs, batch_size: int, count: int) -> None:
    """`count` pairs of an epoch."""
    from twinlens.training.pairs import Epoch, epoch_order

    whole = epoch_order(pairs, batch_size, seed=0, epoch=0)
    steps = count // batch_size
    parts = (whole.pictures[:steps], whole.text_rows[:steps], whole.views[:steps])
    trainer.run_epoch(pairs, Epoch(*parts))


def compare(
    form: str, batch_size: int, peer: str, rounds: int
) -> tuple[float, float, float]:
    """Our pairs/s, the peer's pairs/s, and the median ratio of alternating rounds."""
    random = np.random.default_rng(0)
    images = random.normal(size=(PICTURES, IMAGE_DIM)).astype(np.float32)
    texts = random.normal(size=(PICTURES, TEXT_DIM)).astype(np.float32)
    trainer, pairs = our_trainer(images, texts, form)
    torch_trainer = TorchTrainer(images, texts, form)
    peer_loop = torch_trainer.indexed if peer == "indexed" else torch_trainer.loaded
    count = PICTURES if batch_size >= 256 else PICTURES // 4
    jobs = {
        "ours": partial(run_ours, trainer, pairs, batch_size, count),
        "peer": partial(peer_loop, batch_size, count),
    }
    seconds = alternate(jobs, rounds)
    ours, theirs = (rate(each, count) for each in seconds.values())
    return ours, theirs, ratio(seconds["peer"], seconds["ours"])


def main(rounds: int = 5) -> None:
    """Prints one Markdown row a comparison."""
    torch.set_num_threads(os.cpu_count() or 1)
    print("| heads | batch | peer | ours, pairs/s | peer, pairs/s | ratio |")
    print("|---|---|---|---|---|---|")
    peers = ((256, "indexed"), (1024, "indexed"), (16, "loaded"))
    for form in TORCH_HEADS:
        for batch_size, peer in peers:
            ours, theirs, times = compare(form, batch_size, peer, rounds)
            print(
                f"| {form} | {batch_size} | PyTorch, {peer} | {ours:,.0f} "
                f"| {theirs:,.0f} | {times:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
