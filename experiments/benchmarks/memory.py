"""Memory of encoding and training: it must not grow with the data.

`python -m experiments.benchmarks.memory`. Trains one epoch on a feature file of a
million rows, memory-mapped, and takes the memory of the process that is its own
(`RssAnon`; pages of the mapped file are the system's to take back).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from experiments.benchmarks.rows import Row, command, measured

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


def head_training(features: np.ndarray, batch_size: int):
    """Heads trained for an epoch on pairs of features, each row with itself."""
    from twinlens.config import Config, override
    from twinlens.training import HeadTraining, PairFeatures

    every, starts = np.arange(len(features)), np.arange(len(features) + 1)
    pairs = PairFeatures(features, features, every, every, starts, every)
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
    training = HeadTraining(pairs, None, config)
    training.run(lambda history: None)
    return training


def rows(rows: int = 1_000_000, batch_size: int = 1024) -> Iterator[Row]:
    """Trains an epoch on so many rows of a file."""
    with tempfile.TemporaryDirectory() as folder:
        features = feature_file(Path(folder) / "features.npy", rows)
        size = features.nbytes / 2**20
        with Watch() as watch:
            training = head_training(features, batch_size)
    speed = training.history[-1]["pairs_per_second"]
    question = f"an epoch of {rows:,} rows from a memory map of {size:,.0f} MB"
    yield measured(f"{question}: own memory", [watch.peak - watch.start], size, "MB")
    yield Row(f"{question}: speed", "", speed, speed, speed, None, "pairs/s")


if __name__ == "__main__":
    command(rows)
