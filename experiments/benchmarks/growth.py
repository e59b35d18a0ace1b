"""How cost grows: time and peak memory of each job against the size of its data.

`python -m experiments.benchmarks.growth [--out FOLDER] [--pictures-sizes 1000,10000]`.
Every size runs in a process of its own, on made-up data: small pictures and a small
network, features in a memory map, vectors, embeddings. Writes `growth.png`, both axes
logarithmic, with the slope that is expected drawn through the largest size, and
`growth.csv`. Resident memory counts pages of mapped files, which the system takes back
when it needs them; own memory does not.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from experiments.benchmarks.memory import Watch
from experiments.benchmarks.rounds import Job
from experiments.benchmarks.rows import Row, command

from twinlens.quiet import stderr_kept_back

STEEPER = 0.1  # above the expected slope is still as expected
DISTINCT = 1000  # pictures; further ones are the same files under other names
DIM = 128  # of vectors and embeddings


@dataclass(frozen=True)
class Cost:
    """What one size took: seconds and MB."""

    job: str
    size: int
    seconds: float
    own_mb: float
    resident_mb: float


# === Jobs: each makes its data in a folder and returns what is timed ===


def pictures(folder: Path, size: int) -> Job:
    """So many small pictures into a cache."""
    from PIL import Image

    from twinlens import encode_images, image_encoder

    random, paths = np.random.default_rng(0), {}
    for number in range(size):
        path = folder / f"{number}.jpg"
        if number < DISTINCT:
            noise = random.integers(0, 256, (48, 48, 3), np.uint8)
            Image.fromarray(noise).save(path)
        else:
            os.link(folder / f"{number % DISTINCT}.jpg", path)
        paths[str(number)] = str(path)
    encoder = image_encoder("mobilenet_v2", weights="none", image_size=32)
    return lambda: encode_images(encoder, paths, folder / "cache", batch_size=128)


def heads(folder: Path, size: int) -> Job:
    """An epoch on so many rows of features in a memory map."""
    from experiments.benchmarks.memory import feature_file, head_training

    features = feature_file(folder / "features.npy", size)
    return lambda: head_training(features, batch_size=1024)


def flat_index(folder: Path, size: int) -> Job:
    """So many vectors into an exact index."""
    return _index(folder, size, "flat")


def graph_index(folder: Path, size: int) -> Job:
    """So many vectors into a graph."""
    return _index(folder, size, "hnsw")


def _index(folder: Path, size: int, backend: str) -> Job:
    from experiments.benchmarks.search import clustered, items_of

    from twinlens.config import IndexSettings
    from twinlens.index import create

    index = create(folder / "index", {"image": DIM}, IndexSettings(backend=backend), {})
    items = items_of(size)
    return lambda: index.add(items, clustered(size, DIM, seed=3))


def ranks(folder: Path, size: int) -> Job:
    """Ranks of so many captions and as many pictures, both ways."""
    from twinlens.metrics import retrieval_ranks

    random = np.random.default_rng(0)
    images = random.normal(size=(size, DIM)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts = images + 0.1 * random.normal(size=images.shape).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return lambda: retrieval_ranks(images, range(size), texts, range(size))


@dataclass(frozen=True)
class Expected:
    """Slopes of time and own memory, and what a size counts."""

    time: int
    memory: int
    unit: str


EXPECTED: dict[Callable[[Path, int], Job], Expected] = {
    pictures: Expected(1, 0, "pictures"),
    heads: Expected(1, 0, "rows of features"),
    flat_index: Expected(1, 0, "items"),
    graph_index: Expected(1, 1, "items"),  # FAISS keeps vectors and links in memory
    ranks: Expected(2, 0, "captions, as many pictures"),
}


# === Measuring ===


def cost(job: Callable[[Path, int], Job], size: int) -> Cost:
    """What one size takes, in this process; its data is made before."""
    with tempfile.TemporaryDirectory() as folder:
        with stderr_kept_back():  # TensorFlow's first lines
            run = job(Path(folder), size)
        start = time.perf_counter()
        with Watch() as watch:
            run()
        seconds = time.perf_counter() - start
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(job.__name__, size, seconds, watch.peak, resident)


def rows(
    out: Path = Path("experiments/runs/growth"),
    pictures_sizes: str = "1000,10000,100000",
    heads_sizes: str = "10000,100000,1000000",
    flat_sizes: str = "10000,100000,1000000",
    graph_sizes: str = "1000,10000,50000",
    ranks_sizes: str = "1000,10000,100000",
) -> Iterator[Row]:
    """Measures every size, draws the plot, and says how time grew at the end."""
    given = (pictures_sizes, heads_sizes, flat_sizes, graph_sizes, ranks_sizes)
    found: dict[str, list[Cost]] = {}
    spawn = multiprocessing.get_context("spawn")
    for (job, expected), sizes in zip(EXPECTED.items(), given, strict=True):
        costs = found[job.__name__] = []
        for size in map(int, sizes.split(",")):
            with ProcessPoolExecutor(1, spawn) as pool:
                costs.append(pool.submit(cost, job, size).result())
        yield from _grown(costs, expected.time)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "growth.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Cost))
        writer.writerows(astuple(each) for costs in found.values() for each in costs)
    draw(found, out / "growth.png")


def _grown(costs: list[Cost], expected: int) -> Iterator[Row]:
    """Slope of the time over the two largest sizes, and memory of all."""
    before, last = costs[-2:]
    grown = math.log(last.seconds / before.seconds) / math.log(last.size / before.size)
    name = last.job.replace("_", " ")
    question = f"{name}: slope of the time, {before.size:,} to {last.size:,}"
    took = f"{last.seconds:,.1f} s", f"{before.seconds:,.1f} s"
    goal = expected + STEEPER
    yield Row(question, "", grown, grown, grown, goal, "", *took)
    memory = [each.own_mb for each in costs]
    question = f"{name}: own memory at {last.size:,}, of {min(memory):,.0f} MB at least"
    yield Row(question, "", memory[-1], min(memory), max(memory), None, "MB")


# === The plot ===


def draw(found: dict[str, list[Cost]], path: Path) -> None:
    """Time above and memory below, a column for each job."""
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(found), 6), layout="constrained")
    axes = figure.subplots(2, len(found), sharex="col")
    slopes = {job.__name__: expected for job, expected in EXPECTED.items()}
    for (above, below), (name, costs) in zip(axes.T, found.items(), strict=True):
        sizes = np.array([each.size for each in costs])
        times = {"measured": [each.seconds for each in costs]}
        memory = {
            "own": [each.own_mb for each in costs],
            "resident": [each.resident_mb for each in costs],
        }
        _panel(above, sizes, times, slopes[name].time)
        _panel(below, sizes, memory, slopes[name].memory)
        above.set_title(name.replace("_", " "))
        below.set_xlabel(slopes[name].unit)
        below.set_ylim(50, 20_000)
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("peak memory, MB")
    figure.savefig(path, dpi=120)


def _panel(axis, sizes: np.ndarray, lines: dict[str, list[float]], slope: int) -> None:
    """Lines against size, and the expected slope through the end of the first."""
    for (name, values), style in zip(lines.items(), ("o-", "s:"), strict=False):
        axis.loglog(sizes, values, style, label=name)
    end = next(iter(lines.values()))[-1]
    expected = end * (sizes / sizes[-1]) ** float(slope)
    axis.loglog(sizes, expected, "--", color="grey", label=f"slope {slope}")
    axis.legend(fontsize="small")


if __name__ == "__main__":
    command(rows)
