"""Search: exact search beside FAISS and scikit-learn, a graph beside exact, latency.

    python -m experiments.benchmarks.search exact --largest 1000000
    python -m experiments.benchmarks.search graph --count 200000 [--features FILE]
    python -m experiments.benchmarks.search latency RUN

`exact` asks 10^4, 10^5, … synthetic vectors with 1, 10, 100 and 1,000 queries at once.
`graph` builds a flat and a graph index of the same vectors, synthetic ones or those of
`RUN/index/vectors.f32`. `latency` asks a run's text encoder and an index of synthetic
vectors, from the text to the table of answers.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import typer
from experiments.benchmarks.memory import Watch
from experiments.benchmarks.rounds import alternate
from experiments.benchmarks.rows import Row, compared, measured, printing

QUERIES, K = (1, 10, 100, 1000), 10
SMALLEST = 10_000
CLUSTERS, SPREAD = 2000, 0.5  # of a cluster, relative to the distance of centres
BLOCK = 10_000
SECONDS = 20.0  # for one size and number of queries; two rounds at least

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


@contextlib.contextmanager
def index_of(backend: str, count: int, blocks: Iterator[np.ndarray]):
    """An index in a folder that goes away, and what building it took."""
    from twinlens.config import IndexSettings
    from twinlens.index import create

    with tempfile.TemporaryDirectory() as folder:
        blocks = iter(blocks)
        first = next(blocks)
        settings = IndexSettings(backend=backend)
        index = create(Path(folder) / "i", {"image": first.shape[1]}, settings, {})
        with Watch() as watch:
            index.add(items_of(count), itertools.chain([first], blocks))
        yield index, watch


# === Exact search beside FAISS and scikit-learn ===


def exact(largest: int = 1_000_000, dim: int = 256, rounds: int = 30) -> Iterator[Row]:
    """Sizes from 10^4 in steps of ten, each asked with 1 to 1,000 queries at once."""
    import faiss
    from sklearn.neighbors import NearestNeighbors

    queries = np.concatenate(list(clustered(max(QUERIES), dim, seed=2)))
    count = SMALLEST
    while count <= largest:
        with index_of("flat", count, clustered(count, dim, seed=3)) as (index, _):
            bare = faiss.IndexFlatIP(dim)
            bare.add(np.asarray(index.vectors))
            near = NearestNeighbors(n_neighbors=K, algorithm="brute", n_jobs=-1)
            near.fit(bare.reconstruct_n(0, count))  # of unit vectors, the same order
            ways = {"ours": lambda q, i=index: i.search(q, K)}
            ways["FAISS, IndexFlatIP"] = lambda q, b=bare: b.search(q, K)
            ways["scikit-learn, brute"] = lambda q, n=near: n.kneighbors(q)
            for together in QUERIES:
                yield from _beside(ways, queries[:together], count, rounds)
        count *= 10


def _beside(ways: dict, queries: np.ndarray, count: int, rounds: int) -> Iterator[Row]:
    jobs = {name: lambda way=way: way(queries) for name, way in ways.items()}
    seconds = alternate(jobs, rounds, SECONDS)
    question = f"search {count:,} items, {len(queries):,} queries at once"
    for peer, reach in (("FAISS, IndexFlatIP", 0.95), ("scikit-learn, brute", 5.0)):
        both = seconds["ours"], seconds[peer]
        yield compared(question, peer, both, (len(queries), "queries"), reach)


# === A graph beside exact search ===


def graph(
    count: int = 200_000, dim: int = 256, features: str = "", rounds: int = 30
) -> Iterator[Row]:
    """Speed and recall of a graph, and the memory that both indexes are built in."""
    if features:
        stored = np.fromfile(features, np.float32).reshape(-1, dim)
        stored = np.random.default_rng(0).permutation(stored)
        queries, count = stored[:400], len(stored) - 400
    else:
        queries = np.concatenate(list(clustered(400, dim, seed=2)))

    def blocks() -> Iterator[np.ndarray]:
        return iter([stored[400:]]) if features else clustered(count, dim, seed=3)

    with (
        index_of("flat", count, blocks()) as (flat, flat_memory),
        index_of("hnsw", count, blocks()) as (hnsw, hnsw_memory),
    ):
        for together in (1, 100):
            some = queries[:together]
            jobs = {
                "flat": lambda q=some: flat.search(q, K),
                "graph": lambda q=some: hnsw.search(q, K),
            }
            seconds = alternate(jobs, rounds)
            question = f"graph of {count:,} items, {together} queries at once"
            both = seconds["graph"], seconds["flat"]
            goal = 10.0 if together == 1 else None
            yield compared(question, "exact search", both, (together, "queries"), goal)
        near, true = (each.search(queries, K)[1] for each in (hnsw, flat))
        pairs = zip(near, true, strict=True)
        recall = [len({*a} & {*b}) / K for a, b in pairs]
        question = f"graph of {count:,} items: share of the exact ten best"
        found = float(np.mean(recall))
        yield Row(question, "exact search", found, min(recall), max(recall), 0.98)
        for name, watch in (("flat", flat_memory), ("graph", hnsw_memory)):
            question = f"own memory while {count:,} items are indexed, {name}"
            yield measured(question, [watch.peak - watch.start], None, "MB")


# === From a text to answers ===


def latency(run: str, count: int = 100_000, rounds: int = 200) -> Iterator[Row]:
    """From a text to its answers, with a warm model."""
    from twinlens.quiet import import_tensorflow

    import_tensorflow()
    from twinlens.config import SearchSettings
    from twinlens.search import SearchIndex, open_model

    model, asked = open_model(run), itertools.cycle(_texts())
    for backend in ("flat", "hnsw"):
        vectors = clustered(count, model.embedding_dim, seed=3)
        with index_of(backend, count, vectors) as (made, _):
            made.info["model"] = {"name": model.name, "digest": model.digest}
            index = SearchIndex(made, SearchSettings(), run, model)
            times = alternate({"": lambda i=index: i.search(next(asked))}, rounds)[""]
        question = f"a text to its answers among {count:,} items, {backend}"
        goal = 30.0 if backend == "hnsw" else None
        yield measured(question, [1000 * each for each in times], goal, "ms")


def _texts() -> list[str]:
    words = ["a dog", "two men", "a child", "in the snow", "on a beach", "at night"]
    return [f"{a} and {b} {c}" for a in words for b in words for c in words]


for rows in (exact, graph, latency):
    app.command()(printing(rows))

if __name__ == "__main__":
    app()
