"""Memory of a gradient cache: 1,024 pairs in a step, 32 in a batch.

`python -m experiments.benchmarks.step_memory IMAGES_FOLDER`. Each way in a process of
its own: the highest resident memory of two steps, beside steps of a plain batch of 32.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import multiprocessing
import resource
from pathlib import Path

import typer

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


def main(images: Path, negatives: int = 1024) -> None:
    """Prints one Markdown row a way, and their ratio."""
    spawn = multiprocessing.get_context("spawn")
    found = {}
    for each in (SIZE, negatives):
        with spawn.Pool(1) as pool:
            found[each] = pool.apply(peak, (images, each, 8))
        print(f"| {each:,} pairs a step, {SIZE} a batch | {found[each]:,.0f} MB |")
    print(f"| ratio | {found[negatives] / found[SIZE]:.2f} |")


if __name__ == "__main__":
    typer.run(main)
