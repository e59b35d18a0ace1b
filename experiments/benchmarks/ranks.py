"""Times the ranks of both directions against the bare matrix product.

    python -m experiments.benchmarks.ranks

Prints one row of a Markdown table. The matrix product is what no exact ranking can
do without; the ratio is its share of our time, so 1.0 would mean that counting,
ties, both directions and all right answers cost nothing.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import typer

from twinlens.metrics.ranks import retrieval_ranks
from twinlens.metrics.scores import BLOCK_BYTES

NUM_TEXTS, NUM_IMAGES, DIM = 25_000, 5_000, 512  # COCO's 5K test set, CLIP's dim


def main(repeats: int = 7, texts: int = NUM_TEXTS, images: int = NUM_IMAGES) -> None:
    """Measures in turns, so that a busy machine is as busy for everyone."""
    generator = np.random.default_rng(0)
    image_embeddings = unit_vectors(generator, images)
    text_rows = np.arange(texts) % images
    noise = unit_vectors(generator, texts)
    text_embeddings = normalised(0.3 * image_embeddings[text_rows] + noise)

    def ours() -> None:
        retrieval_ranks(image_embeddings, range(images), text_embeddings, text_rows)

    contestants = {
        "whole": lambda: image_embeddings @ text_embeddings.T,
        "blocked": lambda: blocked_product(image_embeddings, text_embeddings),
        "ours": ours,
    }
    seconds = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            seconds[name].append(time_of(run))
    print(table_row(seconds, f"{texts:,} × {images:,} × {DIM}", peak_mib(ours)))


def unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    """`(count, DIM)` random unit vectors."""
    return normalised(generator.standard_normal((count, DIM), dtype=np.float32))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """The vectors with length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def blocked_product(images: np.ndarray, texts: np.ndarray) -> None:
    """All scores, in one buffer of the size that ours uses, looked at by nobody."""
    rows = BLOCK_BYTES // 4 // len(texts)
    buffer = np.empty((rows, len(texts)), np.float32)
    for start in range(0, len(images), rows):
        block = images[start : start + rows]
        np.matmul(block, texts.T, out=buffer[: len(block)])


def time_of(run: Callable[[], object]) -> float:
    """Seconds one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mib(run: Callable[[], object]) -> float:
    """The most memory one call holds above what was there before, in MiB."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def table_row(seconds: dict[str, list[float]], size: str, mib: float) -> str:
    """Median seconds, and the median of each round's own ratio."""
    medians = [statistics.median(values) for values in seconds.values()]
    times = " | ".join(f"{median:.2f} s" for median in medians)
    ratios = " | ".join(
        f"{statistics.median(np.divide(seconds[name], seconds['ours'])):.2f}"
        for name in ("whole", "blocked")
    )
    return f"| {size} | {times} | {ratios} | {mib:.0f} MiB |"


if __name__ == "__main__":
    typer.run(main)
