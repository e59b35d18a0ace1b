"""A training step of phase 2 beside PyTorch: InceptionV3 at 299 pixels and BERT.

`python -m experiments.benchmarks.step [--apart] [--images FOLDER]`. Both frameworks
train the same two networks (six layers of 384 for texts, 32 tokens) with batch
normalisation frozen, the same heads and loss, clipping and AdamW, on a batch in memory;
PyTorch in channels-last. `--apart` gives each a process of its own, which is what
counts: in turn inside one process each hinders the other. With a folder of pictures, a
row says what reading and augmenting them costs beside the same step.
"""

import itertools
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import typer
from experiments.benchmarks.rounds import alternate, rate, ratio
from experiments.benchmarks.tuner import LENGTH, RATE, SIZE, TEXT, Ours
from experiments.benchmarks.vision import torchvision
from transformers import BertConfig, BertModel

from twinlens.config import Config


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


def alone(job: str, images: Path | None, count: int) -> None:
    """Prints the median seconds of a step of one framework, after two warm-up steps."""
    torch.set_num_threads(os.cpu_count() or 1)
    who, dtype = job.split()
    pixels = np.random.default_rng(0).uniform(0, 255, (32, SIZE, SIZE, 3))
    pixels = pixels.astype("float32")
    if who == "ours":
        ours = Ours(dtype)
        step = ours.steps(ours.batch(pixels), 1)
    elif who == "reading":
        ours = Ours(dtype)
        step = ours.reading(images, 32, 2 + count)
    else:
        step = peer_steps(dtype, pixels, 1)
    seconds = []
    for _ in range(2 + count):
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    print(f"SECONDS {np.median(seconds[2:])}")


def processes(images: Path | None, count: int, rounds: int) -> None:
    """Each framework in processes of its own, in turn: nothing warms or hinders."""
    print("| comparison | pictures/s | peer, pictures/s | ratio |\n|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        peer = "reading" if images else "PyTorch"
        found: dict[str, list[float]] = {"ours": [], peer: []}
        for _, name in itertools.product(range(rounds), found):
            words = ["-m", __spec__.name, "--job", f"{name} {dtype}"]
            words += ["--images", str(images)] if images else []
            said = subprocess.run(
                [sys.executable, *words, "--count", str(count)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            found[name].append(32 / float(said.rsplit("SECONDS", 1)[1]))
        mine, other = (float(np.mean(each)) for each in found.values())
        print(
            f"| ours / {peer}, {dtype} | {mine:.1f} | {other:.1f} "
            f"| {mine / other:.2f} |"
        )


def main(
    images: Path | None = None,
    batch_size: int = 32,
    count: int = 2,
    rounds: int = 3,
    apart: bool = False,
    job: str = "",
) -> None:
    """Prints one Markdown row a comparison; `--apart` in a process for each."""
    if job:
        alone(job, images, count)
        return
    if apart:
        processes(images, count, rounds)
        return
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
