"""Scores of queries against a gallery, a block at a time, in float32.

In half precision the top of a large gallery is full of ties that are not there.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.nearest import nearest

BLOCK_BYTES = 64 * 2**20  # of scores at once: smaller slows the matrix product

COLLAPSED_VARIANCE = 1e-4  # of unit vectors: about half a degree around their mean


def top_k(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    exclude: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best of a gallery for each query; equal scores in gallery order.

    Args:
        queries: `(queries, dim)` embeddings.
        gallery: `(gallery, dim)` embeddings.
        k: how many; at most the size of the gallery, less one with `exclude`.
        exclude: `(queries,)` a row of the gallery that the query may not find, for
            example itself; -1 for none.

    Returns:
        `(queries, k)` rows of the gallery and `(queries, k)` float32 scores, best
        first.

    Raises:
        InputError: if `k` is out of range or an embedding is not finite.
    """
    queries = checked_embeddings("queries", queries)
    gallery = checked_embeddings("gallery", gallery)
    check_same_dim(queries, gallery)
    available = len(gallery) - (exclude is not None)
    if not 1 <= k <= available:
        raise InputError(f"`k` is {k}; it must be between 1 and {available}.")
    return nearest(queries, gallery, k, exclude=exclude)


def is_collapsed(embeddings: np.ndarray) -> bool:
    """Whether all embeddings are (nearly) the same vector, so that none is found.

    Args:
        embeddings: `(n, dim)`, of any length; fewer than two are never collapsed.

    Returns:
        True if their variance is below 1e-4 of their mean squared length.
    """
    embeddings = checked_embeddings("embeddings", embeddings)
    if len(embeddings) < 2:
        return False
    squares = np.einsum("ij,ij->i", embeddings, embeddings).mean(dtype=np.float64)
    mean = embeddings.mean(axis=0, dtype=np.float64)
    return bool(squares - mean @ mean <= COLLAPSED_VARIANCE * squares)


def checked_embeddings(
    name: str, embeddings: np.ndarray, ids: Sequence | None = None
) -> np.ndarray:
    """The embeddings as `(n, dim)` float32, or an error that calls them `name`."""
    embeddings = np.asarray(embeddings, np.float32)
    if embeddings.ndim != 2:
        raise InputError(f"`{name}` is {embeddings.shape}; it must be (n, dim).")
    if ids is not None and len(ids) != len(embeddings):
        raise InputError(
            f"`{name}` has {len(embeddings)} rows, but there are {len(ids)} ids or "
            "labels for them. Give one for each row."
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):  # nothing is better than a NaN: it would rank first
        raise InputError(
            f"{len(broken)} rows of `{name}` have NaN or infinity in them, the first "
            f"is row {broken[0]}. They cannot be ranked; look at the training loss."
        )
    return embeddings


def check_same_dim(queries: np.ndarray, gallery: np.ndarray) -> None:
    """Refuses embeddings that do not live in one space."""
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"Embeddings of {queries.shape[1]} and of {gallery.shape[1]} dims cannot "
            "be compared; both must come from one model."
        )


def row_blocks(num_rows: int, row_length: int, block_bytes: int) -> Iterator[slice]:
    """Slices of rows of float32 that together take at most `block_bytes`."""
    step = max(1, block_bytes // (4 * max(1, row_length)))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
