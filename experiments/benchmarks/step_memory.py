"""Memory of a gradient cache: 1,024 pairs in a step, 32 in a batch.

`python -m experiments.benchmarks.step_memory IMAGES_FOLDER`. Each way in a process of
its own: the highest resident memory of two steps, beside steps of a plain batch of 32.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import multiprocessing
import resource
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from experiments.benchmarks.rows import Row, command

SIZE = 32


def peak(folder: Path, negatives: int, steps: int) -> float:
    """Highest resident memory in MB of some steps."""
    from experiments.benchmarks.tuner import Ours

    ours = Ours("float32")
    if negatives == SIZE:
        ours.read(folder, SIZE, steps)()
    else:
        ours.cached(folder, SIZE, negatives // SIZE)()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rows(images: Path, negatives: int = 1024) -> Iterator[Row]:
    """Compares the highest memory of both ways."""
    found = {}
    for each in (SIZE, negatives):
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn) as pool:
            found[each] = pool.submit(peak, images, each, 8).result()
    question = f"peak memory of a step on {negatives:,} pairs"
    spread = (found[negatives] / found[SIZE],) * 3
    ours, theirs = (f"{found[each]:,.0f} MB" for each in (negatives, SIZE))
    yield Row(question, f"a batch of {SIZE}", *spread, 1.15, "", ours, theirs)


if __name__ == "__main__":
    command(rows)
