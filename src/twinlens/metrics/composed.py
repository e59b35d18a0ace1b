"""Composed queries: a picture and a wish ask for one target picture.

Each query has one right answer. With `hit` as 1 if its rank is at most K, else 0:

- `recall@K`: `hit`, the share of all right answers that is found.
- `precision@K`: `hit / K`, the share of the first K places that is right. One right
  answer fills one place, so it is at most 1 / K and falls with K.
- `f1@K`: `2 hit / (K + 1)`, the harmonic mean of the two.

The others are those of `per_query`; `map` is `mrr`, as there is one right answer.
"""

from collections.abc import Sequence

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.ranks import (
    TIE_TOLERANCE,
    count_columns,
    hide_pairs,
    pair_scores,
    score_blocks,
)
from twinlens.metrics.retrieval import per_query
from twinlens.metrics.scores import BLOCK_BYTES, check_same_dim, checked_embeddings


def target_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    targets: np.ndarray,
    left_out: np.ndarray | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> np.ndarray:
    """Rank of each query's one target in the gallery, ties counted against the model.

    Memory is a block of scores, whatever the number of queries and pictures.

    Args:
        queries: `(queries, dim)` unit vectors.
        gallery: `(gallery, dim)` unit vectors.
        targets: `(queries,)` rows of the gallery, the right answers.
        left_out: `(queries,)` a row of the gallery that does not compete, for example
            the reference picture; -1 for none. Without it all rows compete.
        block_bytes: of scores held at once; it changes the speed, not the result.

    Returns:
        `(queries,)` ranks, 1 = best.

    Raises:
        InputError: if shapes disagree, an embedding is not finite, a row is not in
            the gallery, or a query leaves out its own target.
    """
    queries = checked_embeddings("queries", queries)
    gallery = checked_embeddings("gallery", gallery)
    check_same_dim(queries, gallery)
    if left_out is None:
        left_out = np.full(len(queries), -1)
    targets = _checked_rows("targets", targets, len(queries), 0, len(gallery))
    left_out = _checked_rows("left_out", left_out, len(queries), -1, len(gallery))
    own = np.flatnonzero(targets == left_out)
    if len(own):
        raise InputError(
            f"{len(own)} queries leave out their own target, the first is query "
            f"{own[0]} with row {targets[own[0]]}. Drop these queries or keep the row."
        )
    thresholds = pair_scores(queries, gallery, targets) - TIE_TOLERANCE
    better = np.zeros(len(queries), np.int64)
    for block, columns, scores in score_blocks(gallery, queries, block_bytes):
        hide_pairs(scores, targets[columns] - block.start)
        hide_pairs(scores, left_out[columns] - block.start)
        better[columns] += count_columns(scores, thresholds[columns])
    return 1 + better


def composed_values(
    ranks: np.ndarray,
    gallery_sizes: np.ndarray | int,
    ks: Sequence[int] = (1, 5, 10, 50),
    percents: Sequence[float] = (5,),
) -> dict[str, np.ndarray]:
    """All metrics of composed queries, for each query.

    Args:
        ranks: `(queries,)` rank of the target, 1 = best.
        gallery_sizes: how many pictures competed, for all queries or `(queries,)`.
        ks: cut-offs in places.
        percents: cut-offs in percent of the gallery.

    Returns:
        `(queries,)` float64 values by name: those of `per_query`, `precision@K` and
        `f1@K`.

    Raises:
        InputError: if shapes disagree, or a rank lies outside of its gallery.
    """
    ranks, sizes = np.asarray(ranks), np.asarray(gallery_sizes)
    if ranks.ndim != 1 or len(ranks) == 0 or sizes.shape not in ((), ranks.shape):
        raise InputError(
            f"Ranks are {ranks.shape} and gallery sizes {sizes.shape}; ranks must be "
            "(queries,), not empty, and sizes one number or one for each query."
        )
    sizes = np.broadcast_to(sizes, ranks.shape)
    values: dict[str, np.ndarray] = {}
    for size in np.unique(sizes):
        chosen = sizes == size
        for name, part in per_query(ranks[chosen], int(size), ks, percents).items():
            values.setdefault(name, np.empty(len(ranks)))[chosen] = part
    for k in ks:
        hit = values[f"recall@{k}"]
        values |= {f"precision@{k}": hit / k, f"f1@{k}": 2 * hit / (k + 1)}
    return values


def _checked_rows(
    name: str, rows: np.ndarray, num_queries: int, lowest: int, gallery_size: int
) -> np.ndarray:
    """The rows as `(queries,)` int64, or an error that calls them `name`."""
    rows = np.asarray(rows)
    if rows.shape != (num_queries,) or (rows.size and rows.dtype.kind not in "iu"):
        raise InputError(
            f"`{name}` is {rows.shape} of {rows.dtype}; for {num_queries} queries it "
            f"must be ({num_queries},) whole numbers."
        )
    outside = np.flatnonzero((rows < lowest) | (rows >= gallery_size))
    if len(outside):
        raise InputError(
            f"{len(outside)} of `{name}` are not rows of the gallery of "
            f"{gallery_size} pictures, the first is {rows[outside[0]]} of query "
            f"{outside[0]}. They must be from {lowest} to {gallery_size - 1}."
        )
    return rows.astype(np.int64)
