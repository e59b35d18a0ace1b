"""Groups found by a threshold: all items whose score reaches it belong together."""

from collections.abc import Sequence

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.scores import BLOCK_BYTES, checked_embeddings, row_blocks

STEPS = 100  # thresholds that are tried


def group_f1(
    embeddings: np.ndarray,
    groups: Sequence,
    thresholds: Sequence[float],
    block_bytes: int = BLOCK_BYTES,
) -> np.ndarray:
    """Mean F1 over items, each with its own group (the measure of Shopee's contest).

    An item is always in the group that is found for it.

    Args:
        embeddings: `(n, dim)`; scores are inner products.
        groups: `(n,)` true group of each.
        thresholds: least score of two that belong together.
        block_bytes: of scores held at once.

    Returns:
        `(thresholds,)` between 0 and 1.

    Reference:
        https://www.kaggle.com/competitions/shopee-product-matching, "Evaluation".
    """
    embeddings = checked_embeddings("embeddings", embeddings, groups)
    codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    codes, sizes = codes[1], np.bincount(codes[1])
    limits = np.asarray(thresholds, np.float32)
    order = np.argsort(limits)
    total = np.zeros(len(limits))
    for block in row_blocks(len(embeddings), len(embeddings), block_bytes):
        rows = np.arange(len(embeddings))[block]
        scores = embeddings[rows] @ embeddings.T
        scores[np.arange(len(rows)), rows] = np.inf  # itself, at any threshold
        same = codes[rows, None] == codes
        for number, own in enumerate(rows):
            found = _counts(scores[number], limits[order])
            right = _counts(scores[number, same[number]], limits[order])
            total[order] += 2 * right / (found + sizes[codes[own]])
    return total / len(embeddings)


def best_threshold(embeddings: np.ndarray, groups: Sequence) -> tuple[float, float]:
    """The threshold with the best `group_f1`, and that value.

    Raises:
        InputError: there are no embeddings.
    """
    if not len(embeddings):
        raise InputError("There is nothing to find a threshold on.")
    tried = np.linspace(0, 1, STEPS + 1)
    found = group_f1(embeddings, groups, tried)
    best = int(found.argmax())
    return float(tried[best]), float(found[best])


def _counts(scores: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How many scores reach each limit; limits ascend."""
    return len(scores) - np.searchsorted(np.sort(scores), limits, side="left")
