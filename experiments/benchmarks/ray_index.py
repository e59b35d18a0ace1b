"""Encoding a collection: pictures a second of one process and of Ray's workers.

`python -m experiments.benchmarks.ray_index RUN PICTURES`, a run and a folder. The same
blocks of the run's batches, by one process that has all cores, by one worker and by
two, which have a core each; workers start, and everybody encodes their first block,
before the clock does. Prints what ten million pictures would take at each rate.
"""

import time
from collections.abc import Iterable

import ray
import typer

from twinlens.quiet import import_tensorflow

import_tensorflow()

from twinlens.features.pictures import BLOCK_BATCHES as PICTURE_BATCHES  # noqa: E402
from twinlens.features.store import Encoded, Piece  # noqa: E402
from twinlens.search import open_model, pictures_in  # noqa: E402
from twinlens.search.ray_engine import RayEngine  # noqa: E402

BLOCKS = 8  # of eight batches each, after the first ones
COLLECTION = 10_000_000
WAYS = {"one process, all cores": 0, "Ray, one worker": 1, "Ray, two workers": 2}


def pieces_of(files: list[str], size: int, count: int) -> list[Piece]:
    """So many blocks of pictures, which begin anew when they end."""
    some = (files * (count * size // len(files) + 1))[: count * size]
    starts = range(0, len(some), size)
    return [{"files": some[s : s + size], "contents": [""] * size} for s in starts]


def seconds_of(found: Iterable[Encoded], first: int) -> float:
    """Seconds from the end of the first blocks to the end of the last."""
    start = 0.0
    for number, _ in enumerate(found, start=1):
        if number == first:
            start = time.perf_counter()
    return time.perf_counter() - start


def main(run: str, pictures: str) -> None:
    """Prints one Markdown row for each way."""
    model = open_model(run)
    files = pictures_in(pictures)["image_path"].tolist()
    size, first_rate = PICTURE_BATCHES * model.cache.batch_size, 0.0
    print("| | pictures/s | of one process | hours for ten million |")
    print("|---|---|---|---|")
    for name, workers in WAYS.items():
        first = workers or 1
        pieces = pieces_of(files, size, BLOCKS + first)
        if workers:
            found = RayEngine(model, workers=workers)("pictures", pieces)
        else:
            found = map(model.blocks("pictures"), pieces)
        rate = BLOCKS * size / seconds_of(found, first)
        first_rate = first_rate or rate
        hours = COLLECTION / rate / 3600
        row = f"| {name} | {rate:,.1f} | {rate / first_rate:.2f} | {hours:,.0f} |"
        print(row, flush=True)
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
