"""Memory of encoding and training: it must not grow with the data.

`python -m experiments.benchmarks.memory`. Trains one epoch on a feature file of a
million rows, memory-mapped, and prints the memory of the process that is its own
(`RssAnon`; pages of the mapped file are the system's to take back).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import typer

DIM, EMBEDDING = 512, 128


def own_memory() -> float:
    """Anonymous resident memory of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon in /proc/self/status: needs Linux 4.5 or newer")


class Watch:
    """The highest memory while it runs."""

    def __enter__(self) -> "Watch":
        self.start = self.peak = own_memory()
        self.running = True
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self) -> None:
        while self.running:
            self.peak = max(self.peak, own_memory())
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()


def feature_file(path: Path, rows: int) -> np.ndarray:
    """A file of random features, written in blocks, opened as a memory map."""
    shape = (rows, DIM)
    values = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    random = np.random.default_rng(0)
    block = random.normal(size=(10_000, DIM)).astype(np.float16)
    for start in range(0, rows, len(block)):
        values[start : start + len(block)] = block[: rows - start]
    values.flush()
    return np.load(path, mmap_mode="r")


def main(rows: int = 1_000_000, batch_size: int = 1024) -> None:
    """Prints one Markdown row."""
    from twinlens.config import Config, override
    from twinlens.training import HeadTraining, PairFeatures

    with tempfile.TemporaryDirectory() as folder:
        features = feature_file(Path(folder) / "features.npy", rows)
        every = np.arange(rows)
        pairs = PairFeatures(
            features, features, every, every, np.arange(rows + 1), every
        )
        config = override(
            Config(),
            [
                "phase1.epochs=1",
                f"phase1.batch_size={batch_size}",
                "phase1.checkpoint=last",
                f"head.embedding_dim={EMBEDDING}",
                "head.depth=0",
            ],
        )
        with Watch() as watch:
            training = HeadTraining(pairs, None, config)
            training.run(lambda history: None)
    speed = training.history[-1]["pairs_per_second"]
    size = features.nbytes / 2**20
    print(
        "| rows | file, MB | own memory before, peak, MB | pairs/s |\n|---|---|---|---|"
    )
    memory = f"{watch.start:,.0f}, {watch.peak:,.0f}"
    print(f"| {rows:,} | {size:,.0f} | {memory} | {speed:,.0f} |")


if __name__ == "__main__":
    typer.run(main)
