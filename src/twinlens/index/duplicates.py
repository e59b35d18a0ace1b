"""Groups of items whose vectors are nearly the same."""

import numpy as np
import pandas as pd

from twinlens.errors import InputError
from twinlens.index.vector_index import VectorIndex
from twinlens.progress import Progress

BLOCK = 1024  # queries at once


def near_duplicates(
    index: VectorIndex, threshold: float = 0.95, field: str = ""
) -> pd.DataFrame:
    """Items that are linked by pairs with a cosine of at least `threshold`.

    Every pair is compared: 100,000 items take minutes.

    Args:
        index: to look through.
        threshold: cosine of two that are nearly the same.
        field: of the index, that is compared; its first one by default.

    Returns:
        One row an item, `group` from 0, the largest first, and the items' columns.

    Raises:
        InputError: no such field, or a threshold that is not in 0…1.
    """
    field = field or next(iter(index.fields))
    if field not in index.fields or not 0 < threshold <= 1:
        raise InputError(
            f"Near-duplicates by the field {field!r} and the cosine {threshold}: "
            f"{index.folder} has {', '.join(index.fields)}, and a cosine lies above "
            "0 and at most at 1."
        )
    rows = np.flatnonzero(~index.removed)
    leader = np.arange(len(rows))
    vectors = np.ascontiguousarray(index.vectors[rows][:, index.fields[field]])
    with Progress("comparing items", len(rows), "items") as progress:
        for start in range(0, len(rows), BLOCK):
            block = vectors[start : start + BLOCK]
            near = block @ vectors[start:].T >= threshold - 1e-6
            for one, other in np.argwhere(np.triu(near, 1)) + start:
                _join(leader, one, other)
            progress.advance(len(block))
    groups = np.array([_find(leader, each) for each in range(len(rows))], int)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(len(rows)), group, -sizes[group]))
    order = order[sizes[group[order]] > 1]
    found = index.items.iloc[rows[order]].reset_index(drop=True)
    found.insert(0, "group", pd.factorize(group[order])[0])
    return found


def _find(leader: np.ndarray, item: int) -> int:
    while leader[item] != item:
        leader[item] = leader[leader[item]]  # halves the way for the next one
        item = leader[item]
    return item


def _join(leader: np.ndarray, one: int, other: int) -> None:
    one, other = sorted((_find(leader, one), _find(leader, other)))
    leader[other] = one
