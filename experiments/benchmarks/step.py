"""A training step of phase 2 beside PyTorch: InceptionV3 at 299 pixels and BERT.

`python -m experiments.benchmarks.step [--images FOLDER]`. Both frameworks train the
same two networks (six layers of 384 for texts, 32 tokens) with batch normalisation
frozen, the same heads and loss, clipping and AdamW, on a batch in memory; PyTorch in
channels-last. With a folder of pictures, a row says what reading and augmenting them
costs beside the same step on a batch in memory.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
import torch

# The wheel's compiled operators, none of which is used here, are for another build of
# PyTorch; without their names it does not import.
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor boxes, Tensor scores, float limit) -> Tensor")
import torchvision  # noqa: E402

import typer
from experiments.benchmarks.rounds import alternate, rate, ratio
from transformers import BertConfig, BertModel

from twinlens import image_encoder, text_encoder
from twinlens.config import Config, config_from
from twinlens.encoders.text import RandomSize, pack
from twinlens.model import DualEncoder
from twinlens.training.build import build_heads, build_loss
from twinlens.training.pairs import epoch_order
from twinlens.training.raw import Batch, RawBatches, RawPairs
from twinlens.training.replicas import Replicas
from twinlens.training.set_up import build_tuner

SIZE, LENGTH, RATE = 299, 32, 1e-5
TEXT = RandomSize(30_000, 6, 12, 384, dropout=0.1)
CAPTION = " ".join(["a"] * (LENGTH - 2))


class Ours:
    """Our step, made once for each dtype."""

    def __init__(self, dtype: str) -> None:
        plain = Config().model_dump()
        plain["phase2"] |= {"dtype": dtype, "image_learning_rate": RATE}
        self.config = config_from(plain, "benchmark")
        self.images = image_encoder(weights="none", image_size=SIZE)
        self.texts = text_encoder(weights="none", size=TEXT, corpus=[CAPTION])
        loss = build_loss(self.config.loss)
        dims = (self.images.feature_dim, self.texts.feature_dim)
        heads = build_heads(*dims, self.config.head, loss, seed=0)
        model = DualEncoder(self.images.model, self.texts.model, heads)
        encoders = (self.images, self.texts)
        pretrained = {"weights": "as if"}  # so that batch normalisation is frozen
        parts = {
            name: getattr(self.config, name).model_copy(update=pretrained)
            for name in ("image_encoder", "text_encoder")
        }
        config = self.config.model_copy(update=parts)
        self.tuner = build_tuner(model, encoders, loss, config, 1000, [], Replicas())

    def steps(self, batch: Batch, count: int) -> Callable[[], None]:
        """So many updates on one batch."""
        return lambda: [self.tuner.step(lambda: [batch], 1) for _ in range(count)]

    def batch(self, pixels: np.ndarray) -> Batch:
        """In memory; every text has `LENGTH` tokens."""
        tokens = pack(self.texts.tokenize(tf.constant([CAPTION] * len(pixels))), LENGTH)
        ids = np.stack([np.arange(len(pixels))] * 2, axis=1).astype("int32")
        return Batch(tf.constant(pixels), tokens, tf.constant(ids))

    def read(self, folder: Path, size: int, count: int) -> Callable[[], None]:
        """So many updates on pictures that are read and augmented meanwhile."""
        paths = np.array(sorted(map(str, folder.iterdir()))[: size * count], object)
        rows = np.arange(len(paths))
        texts = np.array([CAPTION] * len(paths), object)
        pairs = RawPairs(paths, paths, texts, rows, np.arange(len(paths) + 1))
        order = epoch_order(pairs, size, 0, 0, "phase2")
        encoders = (self.images, self.texts)
        data = RawBatches(pairs, *encoders, self.config.phase2, seed=0)
        return lambda: [
            self.tuner.step(lambda b=batch: [b], 1)
            for batch in data(order, 0, 0, count)
        ]


class Peer(torch.nn.Module):
    """The same networks as a PyTorch user would write them."""

    def __init__(self) -> None:
        super().__init__()
        self.images = torchvision.models.inception_v3(
            aux_logits=True, init_weights=False
        )
        self.images.AuxLogits, self.images.fc = None, torch.nn.Identity()
        self.images = self.images.to(memory_format=torch.channels_last)
        sizes = {"num_hidden_layers": TEXT.num_layers, "hidden_size": TEXT.hidden_dim}
        sizes |= {"num_attention_heads": TEXT.num_heads}
        config = BertConfig(**sizes, intermediate_size=4 * TEXT.hidden_dim)
        self.texts = BertModel(config)
        self.image_head, self.text_head = self._head(2048), self._head(TEXT.hidden_dim)
        self.log_scale = torch.nn.Parameter(torch.tensor(2.66))

    def _head(self, dim: int) -> torch.nn.Module:
        head = Config().head
        return torch.nn.Sequential(
            torch.nn.Linear(dim, head.hidden_dim),
            torch.nn.GELU(),
            torch.nn.Dropout(head.dropout),
            torch.nn.Linear(head.hidden_dim, head.embedding_dim),
        )

    def forward(self, pixels, tokens):
        """Logits of the batch."""
        self.images.eval()  # its batch normalisation is frozen
        images = torch.nn.functional.normalize(self.image_head(self.images(pixels)))
        states = self.texts(tokens).last_hidden_state.mean(1)
        texts = torch.nn.functional.normalize(self.text_head(states))
        return self.log_scale.exp() * images @ texts.T


def peer_steps(dtype: str, pixels: np.ndarray, count: int) -> Callable[[], None]:
    """So many updates in PyTorch."""
    model = Peer()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    data = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 127.5 - 1).float()
    data = data.to(memory_format=torch.channels_last)
    tokens = torch.ones((len(pixels), LENGTH), dtype=torch.long)
    target = torch.arange(len(pixels))
    cross_entropy = torch.nn.functional.cross_entropy

    def steps() -> None:
        for _ in range(count):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                logits = model(data, tokens).float()
            loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()

    return steps


def main(
    images: Path | None = None, batch_size: int = 32, count: int = 2, rounds: int = 3
) -> None:
    """Prints one Markdown row a comparison."""
    torch.set_num_threads(os.cpu_count() or 1)
    random = np.random.default_rng(0)
    pixels = random.uniform(0, 255, (batch_size, SIZE, SIZE, 3)).astype("float32")
    jobs = {}
    for dtype in ("float32", "bfloat16"):
        ours = Ours(dtype)
        jobs[f"ours {dtype}"] = ours.steps(ours.batch(pixels), count)
        jobs[f"PyTorch {dtype}"] = peer_steps(dtype, pixels, count)
        if images is not None:
            jobs[f"read {dtype}"] = ours.read(images, batch_size, count)
    seconds = alternate(jobs, rounds)
    pictures = batch_size * count
    print("| comparison | pictures/s | peer, pictures/s | ratio |\n|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        for name, peer in (("ours", "PyTorch"), ("read", "ours")):
            if f"{name} {dtype}" not in seconds:
                continue
            mine, other = (seconds[f"{each} {dtype}"] for each in (name, peer))
            print(
                f"| {name} / {peer}, {dtype} | {rate(mine, pictures):.1f} "
                f"| {rate(other, pictures):.1f} | {ratio(other, mine):.2f} |"
            )


if __name__ == "__main__":
    typer.run(main)
