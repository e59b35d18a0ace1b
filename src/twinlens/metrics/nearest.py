"""The best of a large gallery by inner product, from matrix products in blocks."""

import numpy as np

FIRST = 256  # columns of the gallery, which are sorted
COLUMNS = 8192  # at once later: a strip of scores stays in the caches
QUERIES = 512  # at once: scores of a block take 16 MiB


def nearest(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    rows: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best rows of each query; equal scores in the gallery's order.

    A few columns are sorted. Of the blocks behind them, each twice as wide as the one
    before, only what beats the worst answer so far is looked at, which is little.

    Args:
        queries: `(queries, dim)` float32.
        gallery: `(gallery, dim)` float32; a memory map is read block by block.
        k: how many; at most as many as can be found.
        rows: `(m,)` rows of the gallery that can be found, rising; by default all.
        exclude: `(queries,)` a row of the gallery that the query may not find, -1 for
            none. Together with `rows` it is not known.

    Returns:
        `(queries, k)` int64 rows and `(queries, k)` float32 scores, best first.
    """
    found = np.empty((len(queries), k), np.int64)
    best = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), QUERIES):
        some = slice(start, start + QUERIES)
        hidden = None if exclude is None else np.asarray(exclude)[some]
        found[some], best[some] = _nearest(queries[some], gallery, k, rows, hidden)
    return found, best


def hide_one_each(scores: np.ndarray, columns: np.ndarray) -> None:
    """Sets one column of each row to minus infinity, none where there is no such."""
    rows = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
    scores[rows, columns[rows]] = -np.inf


def _nearest(queries, gallery, k, rows, exclude) -> tuple[np.ndarray, np.ndarray]:
    count = len(gallery) if rows is None else len(rows)
    found = best = None
    start, width = 0, max(FIRST, k + 1)  # k answers and one that is left out
    while start < count:
        block = slice(start, start + width)
        vectors = gallery[block] if rows is None else gallery[rows[block]]
        scores = queries @ vectors.T
        if exclude is not None:
            hide_one_each(scores, exclude - start)
        if found is None:
            found = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            best = np.take_along_axis(scores, found, axis=1)
        else:
            found, best = _with_better(found, best, scores, start)
        start, width = start + width, min(2 * width, max(COLUMNS, width))
    return found if rows is None else rows[found], best


def _with_better(
    found: np.ndarray, best: np.ndarray, scores: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Answers so far and those of a further block, the best `k` of both.

    Args:
        found: `(queries, k)` columns so far.
        best: `(queries, k)` their scores, best first.
        scores: `(queries, width)` of the block.
        start: column of the gallery at which the block starts.
    """
    better = np.flatnonzero(scores > best[:, -1:])
    query, column = np.divmod(better, scores.shape[1])
    counts = np.bincount(query, minlength=len(scores))
    place = np.arange(len(better)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = len(scores), counts.max()
    new, new_best = np.full(shape, -1), np.full(shape, -np.inf, np.float32)
    new[query, place] = start + column
    new_best[query, place] = scores.ravel()[better]
    found, best = np.hstack([found, new]), np.hstack([best, new_best])
    order = np.argsort(-best, axis=1, kind="stable")[:, : found.shape[1] - shape[1]]
    return np.take_along_axis(found, order, 1), np.take_along_axis(best, order, 1)
