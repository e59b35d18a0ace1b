"""Nearest neighbours by inner product: exact, or through FAISS or Milvus."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.index.filters import Selection
from twinlens.index.milvus import MilvusBackend
from twinlens.metrics.nearest import nearest

GATHERED = 20_000  # rows that a filter leaves: fewer are copied and compared exactly
SELECTIVE = 0.05  # share below which comparing all that are left is quicker
MANY = 100  # candidates of a query with a filter, at least
FEW = 4  # queries: FAISS compares these at the speed of memory, products all above
PQ_TRAINING = 256  # vectors a list of product quantisation needs, and centroids a byte


class Backend(Protocol):
    """Who finds the nearest vectors; rows are those of the vectors it was given."""

    vectors: np.ndarray

    def search(
        self, queries: np.ndarray, k: int, selection: Selection
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best rows of each query.

        Args:
            queries: `(q, dim)` float32.
            k: how many.
            selection: rows that may be found.

        Returns:
            `(q, k)` float32 scores, best first, and `(q, k)` int64 rows; -1 behind
            the end.
        """

    def clear(self) -> None:
        """Drops what a build that failed has put elsewhere than into the folder."""

    def add(self, vectors: np.ndarray, items: pd.DataFrame) -> None:
        """Appends `(m, dim)` vectors as the next rows, and items labelled by row."""

    def save(self, path: Path) -> None:
        """Leaves what it needs beside the vectors."""

    def remove(self, rows: np.ndarray) -> None:
        """Gives up rows that no selection will have again."""

    def close(self) -> None:
        """Lets go of what others cannot use meanwhile."""


def open_faiss():
    """The module `faiss`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError:
        raise InputError(
            'Searching needs FAISS: pip install "twinlens[search]".'
        ) from None
    return faiss


def exact(
    vectors: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The best rows by inner product, every one compared; see `Backend.search`.

    Args:
        vectors: `(n, dim)` float32; a memory map stays one.
        queries: `(q, dim)` float32.
        k: how many.
        allowed: `(n,)` bool.
    """
    faiss = open_faiss()
    rows = None if allowed is None or allowed.all() else np.flatnonzero(allowed)
    count = len(vectors) if rows is None else len(rows)
    if not count:
        return _nothing(len(queries), k)
    if len(queries) > FEW:
        found, scores = nearest(queries, vectors, min(k, count), rows)
        return _filled(scores, found, k)
    if rows is None:
        return _filled(*faiss.knn(queries, vectors, min(k, count), _INNER), k)
    if count <= GATHERED:
        scores, places = faiss.knn(queries, vectors[rows], min(k, count), _INNER)
        return _filled(scores, rows[places], k)
    scores = np.empty((len(queries), k), np.float32)
    found = np.empty((len(queries), k), np.int64)
    selector = faiss.IDSelectorBatch(rows)
    queries, vectors = np.ascontiguousarray(queries), np.asarray(vectors)
    sizes = (vectors.shape[1], len(queries), len(vectors), k)
    pointers = [faiss.swig_ptr(each) for each in (queries, vectors, scores, found)]
    faiss.knn_inner_product(*pointers[:2], *sizes, *pointers[2:], selector)
    return scores, found


_INNER = 0  # faiss.METRIC_INNER_PRODUCT


class FlatBackend(Backend):
    """Every vector is compared: exact, and nothing but the vectors is kept.

    Args:
        vectors: `(n, dim)` float32 memory map.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def search(self, queries, k, selection):
        """See `Backend`."""
        return exact(self.vectors, queries, k, selection.mask)


class FaissBackend(Backend):
    """A FAISS index of its own beside the vectors.

    Args:
        index: of FAISS, trained.
        vectors: `(n, dim)` float32 memory map, for exact comparison of few.
        settings: how wide to search.
    """

    def __init__(self, index, vectors: np.ndarray, settings: IndexSettings) -> None:
        self.index, self.vectors, self.settings = index, vectors, settings

    def search(self, queries, k, selection):
        """See `Backend`.

        FAISS gives up after so many candidates, whether they are allowed or not. So
        all are searched for, more where fewer are allowed, and a query that is left
        with too few is compared with every vector.
        """
        allowed = selection.mask
        wide = k
        if self.settings.backend == "ivf_pq":
            wide = k * self.settings.ivf_pq_refine
        if allowed is None:
            return self._compared(queries, self._near(queries, wide), k)
        count = int(allowed.sum())
        if count <= max(SELECTIVE * len(allowed), k):
            return exact(self.vectors, queries, k, allowed)
        wide = max(math.ceil(2 * wide * len(allowed) / count), MANY)
        rows = self._near(queries, wide)
        rows = np.where((rows >= 0) & allowed[np.maximum(rows, 0)], rows, -1)
        scores, rows = self._compared(queries, rows, k)
        short = rows[:, -1] < 0
        if short.any():
            scores[short], rows[short] = exact(self.vectors, queries[short], k, allowed)
        return scores, rows

    def _near(self, queries: np.ndarray, count: int) -> np.ndarray:
        """`(q, count)` rows that are near; -1 behind the end."""
        faiss, count = open_faiss(), min(count, len(self.vectors))
        if self.settings.backend == "hnsw":
            width = max(self.settings.hnsw_search, count)
            parameters = faiss.SearchParametersHNSW(efSearch=width)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=self.settings.ivf_probes)
        return self.index.search(queries, count, params=parameters)[1]

    def _compared(self, queries, rows, k):
        """Exact scores of what was found, best first."""
        vectors = self.vectors[np.maximum(rows, 0)]
        scores = np.einsum("qd,qkd->qk", queries, vectors).astype(np.float32)
        scores[rows < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(rows, order, axis=1)
        return _filled(np.take_along_axis(scores, order, axis=1), best, k)

    def add(self, vectors: np.ndarray, items: pd.DataFrame) -> None:
        """See `Backend`."""
        self.index.add(np.ascontiguousarray(vectors))

    def save(self, path: Path) -> None:
        """See `Backend`."""
        try:
            open_faiss().write_index(self.index, str(path))
        except RuntimeError as error:  # a full disk, as FAISS has it
            reason = str(error).splitlines()[-1][:200]
            raise InputError(
                f"{path} cannot be written ({reason}). The index is as it was before: "
                "make room and give the same command again."
            ) from None


def empty_backend(
    settings: IndexSettings, vectors: np.ndarray, size: int, folder: Path
) -> Backend:
    """A backend without any vector yet.

    Args:
        settings: which, and how.
        vectors: `(n, dim)` memory map of those that will be added, to learn from.
        size: how many it is made for.
        folder: of the index.

    Raises:
        InputError: there are too few vectors to learn product quantisation from.
    """
    dim = vectors.shape[1]
    if settings.backend == "flat":
        return FlatBackend(vectors)
    if settings.backend == "milvus":
        backend = MilvusBackend(settings, folder)
        backend.clear()
        return backend
    faiss = open_faiss()
    if settings.backend == "hnsw":
        index = faiss.IndexHNSWFlat(dim, settings.hnsw_links, _INNER)
        index.hnsw.efConstruction = settings.hnsw_build
        return FaissBackend(index, vectors, settings)
    if len(vectors) < PQ_TRAINING:
        raise InputError(
            f"index.backend is 'ivf_pq', which learns from at least {PQ_TRAINING} "
            f"vectors, but there are {len(vectors)}. Set index.backend=flat."
        )
    lists = settings.ivf_lists or 4 * math.isqrt(size)
    lists = max(1, min(lists, len(vectors) // 39))  # FAISS wants as many for each
    parts = _divisor(dim, settings.pq_bytes)
    coarse = faiss.IndexFlat(dim, _INNER)
    index = faiss.IndexIVFPQ(coarse, dim, lists, parts, 8, _INNER)
    step = max(1, len(vectors) // (PQ_TRAINING * max(lists, PQ_TRAINING)))
    index.train(np.ascontiguousarray(vectors[::step]))
    return FaissBackend(index, vectors, settings)


def saved_backend(
    settings: IndexSettings, vectors: np.ndarray, path: Path, present: int = 0
) -> Backend:
    """The backend that was left beside the vectors.

    Args:
        settings: which, and how.
        vectors: `(n, dim)` memory map of all.
        path: where it was saved.
        present: rows that are not removed.

    Raises:
        InputError: the file is missing, damaged, or of other vectors.
    """
    if settings.backend == "flat":
        return FlatBackend(vectors)
    if settings.backend == "milvus":
        backend = MilvusBackend(settings, path.parent)
        backend.open(present)
        return backend
    faiss = open_faiss()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1][:200]
        raise InputError(
            f"{path} cannot be read ({reason}). Build the index anew."
        ) from None
    if index.ntotal != len(vectors):
        raise InputError(
            f"{path} knows {index.ntotal} vectors, but there are {len(vectors)}. "
            "Build the index anew."
        )
    return FaissBackend(index, vectors, settings)


def _divisor(dim: int, most: int) -> int:
    """The largest part count up to `most` that divides a vector evenly."""
    return next(parts for parts in range(min(most, dim), 0, -1) if dim % parts == 0)


def _nothing(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = np.full((queries, k), -np.inf, np.float32)
    return scores, np.full((queries, k), -1, np.int64)


def _filled(
    scores: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Answers as wide as was asked for."""
    missing = k - rows.shape[1]
    if missing <= 0:
        return scores, rows
    beside = ((0, 0), (0, missing))
    return (
        np.pad(scores, beside, constant_values=-np.inf),
        np.pad(rows, beside, constant_values=-1),
    )
