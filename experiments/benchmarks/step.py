"""A training step of phase 2 beside PyTorch: InceptionV3 at 299 pixels and BERT.

`python -m experiments.benchmarks.step [--images FOLDER]`. Both frameworks train the
same two networks (six layers of 384 for texts, 32 tokens) with batch normalisation
frozen, the same heads and loss, clipping and AdamW, on a batch in memory; PyTorch in
channels-last. Each in a process of its own, in turn: inside one process each hinders
the other. With a folder of pictures, a row says what reading and augmenting them costs
beside the same step.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from experiments.benchmarks.rounds import Job, alternate_apart
from experiments.benchmarks.rows import Row, command, compared
from experiments.benchmarks.step_sizes import BATCH, SIZE

DTYPES = ("float32", "bfloat16")
WARM = 2  # calls before time is taken: TensorFlow compiles in the first ones


def pixels() -> np.ndarray:
    """A batch of random pictures."""
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype("float32")


def ours(dtype: str) -> Job:
    """One update on a batch in memory."""
    from experiments.benchmarks.tuner import Ours

    tuner = Ours(dtype)
    return warmed(tuner.steps(tuner.batch(pixels()), 1))


def reading(dtype: str, images: Path, rounds: int) -> Job:
    """One update on pictures that are read and augmented meanwhile."""
    from experiments.benchmarks.tuner import Ours

    return warmed(Ours(dtype).reading(images, BATCH, WARM + 1 + rounds))


def peer(dtype: str) -> Job:
    """One update in PyTorch."""
    from experiments.benchmarks.torch_step import step

    return warmed(step(dtype, pixels()))


def warmed(job: Job) -> Job:
    """The job, after some calls."""
    for _ in range(WARM):
        job()
    return job


def rows(images: Path | None = None, rounds: int = 4) -> Iterator[Row]:
    """Compares single steps on 32 pairs."""
    for dtype in DTYPES:
        makers = {"ours": partial(ours, dtype), "PyTorch": partial(peer, dtype)}
        if images is not None:
            makers["reading"] = partial(reading, dtype, images, rounds)
        seconds = alternate_apart(makers, rounds)
        question, units = f"phase-2 step, {dtype}", (BATCH, "pictures")
        both = seconds["ours"], seconds["PyTorch"]
        yield compared(question, "the same networks in PyTorch", both, units, 1.0)
        if images is not None:
            both = seconds["reading"], seconds["ours"]
            question += ", with reading and augmenting"
            yield compared(question, "the step alone", both, units, 0.9)


if __name__ == "__main__":
    command(rows)
