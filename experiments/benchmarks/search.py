"""Search against bare FAISS, an approximate index against exact search, and latency.

    python -m experiments.benchmarks.search vectors --count 200000
    python -m experiments.benchmarks.search vectors --features RUN/index/vectors.f32
    python -m experiments.benchmarks.search latency RUN

`vectors` builds a flat and a graph index of the same vectors and prints rows of a
Markdown table: time of ours and of `faiss.IndexFlatIP` on one query and on a hundred,
recall and speed of the graph. `latency` asks a run's text encoder and an index of
synthetic vectors, from the text to the table of answers.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import typer
from experiments.benchmarks.memory import Watch
from experiments.benchmarks.rounds import alternate, ratio

QUERIES, TOGETHER, K = 400, 100, 10
CLUSTERS, SPREAD = 2000, 0.5  # of a cluster, relative to the distance of centres
BLOCK = 10_000

app = typer.Typer()


def clustered(count: int, dim: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of unit vectors around common centres, as embeddings are."""
    centres = np.random.default_rng(1).normal(size=(CLUSTERS, dim))
    random = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        found = centres[random.integers(CLUSTERS, size=size)]
        found = found + SPREAD * random.normal(size=(size, dim))
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        yield found.astype(np.float32)


def items_of(count: int) -> pd.DataFrame:
    """So many items without pictures."""
    ids = np.arange(count).astype(str)
    return pd.DataFrame({"id": ids, "image_path": "", "title": "", "split": ""})


@app.command()
def vectors(
    count: int = 200_000, dim: int = 256, features: str = "", rounds: int = 30
) -> None:
    """A flat index against FAISS alone, and a graph against the flat index."""
    import faiss

    from twinlens.config import IndexSettings
    from twinlens.index import create

    blocks, asked = list, clustered(QUERIES, dim, seed=2)
    if features:
        stored = np.fromfile(features, np.float32).reshape(-1, dim)
        picked = np.random.default_rng(0).permutation(len(stored))
        count, asked = len(stored) - QUERIES, [stored[picked[:QUERIES]]]
        blocks = lambda: [stored[picked[QUERIES:]]]  # noqa: E731
    else:
        blocks = lambda: clustered(count, dim, seed=3)  # noqa: E731
    queries = np.concatenate(list(asked))
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for backend in ("flat", "hnsw"):
            settings = IndexSettings(backend=backend)
            index = create(Path(folder) / backend, {"image": dim}, settings, {})
            start = time.perf_counter()
            with Watch() as watch:
                index.add(items_of(count), blocks())
            seconds = time.perf_counter() - start
            memory = f"{watch.start:,.0f} → {watch.peak:,.0f} MB"
            print(f"{backend}: {count:,} × {dim} built in {seconds:.0f} s, {memory}")
            made[backend] = index
        bare = faiss.IndexFlatIP(dim)
        for block in blocks():
            bare.add(block)
        for size in (1, TOGETHER):
            _compare(made, bare, queries, size, rounds)
        _, near = made["hnsw"].search(queries, K)
        _, true = made["flat"].search(queries, K)
        pairs = zip(near, true, strict=True)
        recall = np.mean([len({*a} & {*b}) / K for a, b in pairs])
        print(f"| graph, recall@{K} of exact | {recall:.3f} |")


def _compare(made: dict, bare, queries: np.ndarray, size: int, rounds: int) -> None:
    turn = iter(range(10**9))

    def some() -> np.ndarray:
        start = next(turn) * size % (QUERIES - size + 1)
        return queries[start : start + size]

    seconds = alternate(
        {
            "FAISS alone": lambda: bare.search(some(), K),
            "flat": lambda: made["flat"].search(some(), K),
            "graph": lambda: made["hnsw"].search(some(), K),
        },
        rounds,
    )
    middle = {name: 1000 * statistics.median(each) for name, each in seconds.items()}
    said = ", ".join(f"{name} {each:.2f} ms" for name, each in middle.items())
    flat = ratio(seconds["FAISS alone"], seconds["flat"])
    graph = ratio(seconds["flat"], seconds["graph"])
    print(f"| {size} queries: {said} | FAISS / flat {flat:.2f} | × {graph:.0f} |")


@app.command()
def latency(run: str, count: int = 100_000, rounds: int = 200) -> None:
    """From a text to its answers, with a warm model."""
    from twinlens.quiet import import_tensorflow

    import_tensorflow()
    from twinlens.config import IndexSettings, SearchSettings
    from twinlens.index import create
    from twinlens.search import SearchIndex, open_model

    model = open_model(run)
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("flat", "hnsw"):
            settings = IndexSettings(backend=backend)
            said = {"name": model.name, "digest": model.digest, "run": run}
            dim = model.embedding_dim
            made = create(Path(folder) / backend, {"image": dim}, settings, said)
            made.add(items_of(count), clustered(count, dim, seed=3))
            index = SearchIndex(made, SearchSettings(), run, model)
            middle, late = _milliseconds(index, rounds)
            print(
                f"| {backend}, {count:,} items: p50 {middle:.1f} ms, p95 {late:.1f} |"
            )


def _milliseconds(index, rounds: int) -> tuple[float, float]:
    words = ["a dog", "two men", "a child", "in the snow", "on a beach", "at night"]
    texts = [f"{a} and {b} {c}" for a in words for b in words for c in words]
    asked = itertools.cycle(texts)
    times = alternate({"": lambda: index.search(next(asked))}, rounds)[""]
    return tuple(1000 * np.percentile(times, [50, 95]))


if __name__ == "__main__":
    app()
