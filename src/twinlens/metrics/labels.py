"""Metrics where right means "has the label of the query": a category, a group.

Each is computed for a query and then averaged over queries:

- `precision@K`: right answers among the first K, divided by K.
- `recall@K`: right answers among the first K, divided by all right answers in the
  gallery. With more than K of them it cannot reach 1.
- `f1@K`: harmonic mean of the two, per query; 0 where both are 0.
- `map`: mean over all right answers of the precision at their rank.
- `ndcg@K`: gains of 1, discount log2(1 + rank), divided by the best that the first K
  places could hold.

A query without any right answer in the gallery is left out, and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.nearest import hide_one_each
from twinlens.metrics.ranks import TIE_TOLERANCE, PositiveRanks
from twinlens.metrics.retrieval import average_precision, found_at_k, ndcg_at_k
from twinlens.metrics.scores import (
    BLOCK_BYTES,
    check_same_dim,
    checked_embeddings,
    row_blocks,
)


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of each query that has a right answer; `summarise` averages them.

    Attributes:
        per_query: `(queries,)` float64 values by name, all between 0 and 1.
        query_rows: `(queries,)` rows of these queries among those that were passed.
        num_without_relevant: how many queries were left out.
    """

    per_query: dict[str, np.ndarray]
    query_rows: np.ndarray
    num_without_relevant: int


def label_metrics(
    query_embeddings: np.ndarray,
    query_labels: Sequence,
    gallery_embeddings: np.ndarray | None = None,
    gallery_labels: Sequence | None = None,
    ks: Sequence[int] = (1, 5, 10),
    block_bytes: int = BLOCK_BYTES,
) -> LabelMetrics:
    """Metrics over the whole gallery, with ties counted against the model.

    Args:
        query_embeddings: `(queries, dim)` unit vectors.
        query_labels: `(queries,)` labels of any hashable kind.
        gallery_embeddings: `(gallery, dim)`. Without it the queries are the gallery,
            and none of them may find itself.
        gallery_labels: `(gallery,)`, with `gallery_embeddings`.
        ks: cut-offs in places.
        block_bytes: of scores held at once.

    Raises:
        InputError: if shapes disagree, a label is missing, an embedding is not finite,
            or no query has a right answer.
    """
    queries = checked_embeddings("query_embeddings", query_embeddings, query_labels)
    itself = gallery_embeddings is None
    if itself != (gallery_labels is None):
        raise InputError("Pass gallery embeddings and gallery labels, or neither.")
    gallery = queries
    if not itself:
        gallery = checked_embeddings(
            "gallery_embeddings", gallery_embeddings, gallery_labels
        )
        check_same_dim(queries, gallery)
    labels = query_labels if itself else gallery_labels
    codes, members, counts = _relevance(query_labels, labels, itself)
    kept = _rows_with_relevant(counts)
    parts = []
    for block in row_blocks(len(kept), len(gallery), block_bytes):
        rows = kept[block]
        scores = queries[rows] @ gallery.T
        if itself:
            hide_one_each(scores, rows)
        positives = _positive_ranks(scores, codes[rows], members, counts[rows])
        values = _cutoff_metrics(positives, ks)
        parts.append(values | {"map": average_precision(positives)})
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return LabelMetrics(values, kept, len(queries) - len(kept))


def top_k_label_metrics(
    indices: np.ndarray,
    query_labels: Sequence,
    gallery_labels: Sequence | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> LabelMetrics:
    """Metrics of answers that a search gave: all but `map`, which needs every rank.

    Args:
        indices: `(queries, found)` rows of the gallery, best first; -1 where the search
            found no more. Ties stand as the search has ordered them.
        query_labels: `(queries,)` labels of any hashable kind.
        gallery_labels: `(gallery,)`. Without it the queries are the gallery, and no
            row of `indices` may contain its own query.
        ks: cut-offs in places, at most `found`.

    Raises:
        InputError: if shapes disagree, a cut-off lies beyond what was searched, a
            query found itself, a label is missing or no query has a right answer.
    """
    indices = np.asarray(indices)
    itself = gallery_labels is None
    labels = query_labels if itself else gallery_labels
    _check_found(indices, len(query_labels), len(labels), itself, ks)
    codes, members, counts = _relevance(query_labels, labels, itself)
    kept = _rows_with_relevant(counts)
    gallery_codes = np.empty(len(labels), np.int64)
    for code, rows in enumerate(members):
        gallery_codes[rows] = code
    found = indices[kept]
    right = (found >= 0) & (gallery_codes[found] == codes[kept, None])
    own_queries, places = np.nonzero(right)
    positives = PositiveRanks(places + 1, own_queries, counts[kept])
    values = _cutoff_metrics(positives, ks)
    return LabelMetrics(values, kept, len(indices) - len(kept))


def _relevance(
    query_labels: Sequence, gallery_labels: Sequence, itself: bool
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Who is right for whom, without a matrix of queries and gallery.

    Returns:
        `(queries,)` code of each query's label, for each code the rows of the gallery
        that have it, and `(queries,)` how many of them are right answers.
    """
    code_of = {}
    codes = []
    for name, labels in (("query", query_labels), ("gallery", gallery_labels)):
        missing = [
            row for row, label in enumerate(labels) if label is None or label != label
        ]
        if missing:
            raise InputError(
                f"{len(missing)} {name} labels are missing, the first in row "
                f"{missing[0]}. Leave these rows out."
            )
        codes.append([code_of.setdefault(label, len(code_of)) for label in labels])
    query_codes, gallery_codes = (np.array(each, np.int64) for each in codes)
    sizes = np.bincount(gallery_codes, minlength=len(code_of))
    order = np.argsort(gallery_codes, kind="stable")
    members = np.split(order, np.cumsum(sizes)[:-1])
    return query_codes, members, sizes[query_codes] - itself


def _rows_with_relevant(counts: np.ndarray) -> np.ndarray:
    kept = np.flatnonzero(counts > 0)
    if len(kept) == 0:
        raise InputError(
            f"None of {len(counts)} queries shares its label with anything in the "
            "gallery. Are the labels of queries and gallery of the same kind?"
        )
    return kept


def _positive_ranks(
    scores: np.ndarray,
    codes: np.ndarray,
    members: list[np.ndarray],
    counts: np.ndarray,
) -> PositiveRanks:
    """Ranks of all right answers in a block of scores, which is used up."""
    ranks = [
        _relevant_ranks(row, members[code])[:count]  # without the query itself
        for row, code, count in zip(scores, codes, counts, strict=True)
    ]
    queries = np.repeat(np.arange(len(scores)), counts)
    return PositiveRanks(np.concatenate(ranks), queries, counts)


def _relevant_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Ranks of the right answers in one row of scores, which is used up.

    A hidden score, the query itself, comes last.
    """
    right = np.sort(scores[relevant])[::-1]
    scores[relevant] = -np.inf  # so that only wrong answers are counted
    scores.sort()
    before = len(scores) - np.searchsorted(scores, right - TIE_TOLERANCE)
    return before + np.arange(1, len(right) + 1)


def _cutoff_metrics(
    positives: PositiveRanks, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    values = {}
    for k in ks:
        found = found_at_k(positives, k)
        values[f"precision@{k}"] = found / k
        values[f"recall@{k}"] = found / positives.counts
        # 2 p r / (p + r) with p = found / k and r = found / count, safe at found = 0
        values[f"f1@{k}"] = 2 * found / (k + positives.counts)
        values[f"ndcg@{k}"] = ndcg_at_k(positives, k)
    return values


def _check_found(
    indices: np.ndarray,
    num_queries: int,
    gallery_size: int,
    itself: bool,
    ks: Sequence[int],
) -> None:
    if indices.ndim != 2 or len(indices) != num_queries:
        raise InputError(
            f"`indices` is {indices.shape}; for {num_queries} query labels it must be "
            f"({num_queries}, found)."
        )
    if max(ks) > indices.shape[1]:
        raise InputError(
            f"Metrics at {max(ks)} need as many answers, but the search gave "
            f"{indices.shape[1]}. Search for more or lower `ks`."
        )
    if indices.min() < -1 or indices.max() >= gallery_size:
        raise InputError(
            f"`indices` go from {indices.min()} to {indices.max()}; they must be rows "
            f"of the gallery of {gallery_size}, or -1."
        )
    own = np.flatnonzero((indices == np.arange(num_queries)[:, None]).any(axis=1))
    if itself and len(own):
        raise InputError(
            f"{len(own)} queries found themselves, the first is row {own[0]}. Search "
            "with `exclude`, or pass `gallery_labels` if that is meant."
        )
