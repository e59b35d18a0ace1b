"""Composed queries in two stages: who comes first by query, and then by wish."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinlens import metrics


@dataclass(frozen=True)
class Asked:
    """Composed queries that have one right answer each.

    Attributes:
        queries: `(q, dim)` unit vectors of references and wishes.
        texts: `(q, dim)` unit vectors of wishes alone.
        targets: `(q,)` row of the right picture.
        left_out: `(q,)` row of a picture that does not compete; -1 for none.
        categories: `(q,)` name of the gallery that each searches.
    """

    queries: np.ndarray
    texts: np.ndarray
    targets: np.ndarray
    left_out: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class Candidates:
    """What a first stage found for queries that have one right answer each.

    Attributes:
        rows: `(q, c)` pictures, best first; -1 behind the end.
        targets: `(q,)` the right one.
        joint: `(q, c)` scores of the first stage, by the composed query.
        to_image: `(q, c)` scores of the second, by the wish alone.
        first: `(q,)` rank of the target in the whole gallery, after the first stage.
    """

    rows: np.ndarray
    targets: np.ndarray
    joint: np.ndarray
    to_image: np.ndarray
    first: np.ndarray

    def ranks(self, candidates: int, text_to_image: float) -> np.ndarray:
        """`(q,)` ranks of the targets when the best are ranked again by both scores.

        A target that is not among them stays where it was; ties count against it.

        Args:
            candidates: how many are ranked again, at most those that were found; 0:
                one stage.
            text_to_image: weight of the second score against the first.
        """
        rows = self.rows[:, :candidates]
        scores = self.joint[:, :candidates] + (
            text_to_image * self.to_image[:, :candidates]
        )
        right = rows == self.targets[:, None]
        own = np.where(right, scores, -np.inf).max(axis=1, initial=-np.inf)
        near = scores >= (own - metrics.TIE_TOLERANCE)[:, None]
        again = 1 + (near & ~right & (rows >= 0)).sum(axis=1)
        there = right.any(axis=1) & (self.first <= candidates)
        return np.where(there, again, self.first)


def find_candidates(
    asked: Asked, pictures: np.ndarray, galleries: Mapping[str, np.ndarray], count: int
) -> Candidates:
    """The first stage of many queries, each in the gallery of its category.

    Args:
        asked: queries.
        pictures: `(n, dim)` unit vectors.
        galleries: by category, different rows of pictures.
        count: candidates of each; fewer where a gallery has not so many.
    """
    shape = (len(asked.queries), count)
    rows, joint = np.full(shape, -1), np.zeros(shape, np.float32)
    first = np.zeros(len(rows), np.int64)
    for category in np.unique(asked.categories):
        own, gallery = np.flatnonzero(asked.categories == category), galleries[category]
        places = np.full(len(pictures) + 1, -1)  # one more: the place of none
        places[gallery] = np.arange(len(gallery))
        targets, hidden = places[asked.targets[own]], places[asked.left_out[own]]
        queries, some = asked.queries[own], pictures[gallery]
        first[own] = metrics.target_ranks(queries, some, targets, hidden)
        found, scores = metrics.top_k(queries, some, min(count + 1, len(some)))
        hit = found == hidden[:, None]
        order = np.argsort(hit, axis=1, kind="stable")[:, :count]  # left out: last
        found = np.where(hit, -1, gallery[found])
        rows[own, : order.shape[1]] = np.take_along_axis(found, order, 1)
        joint[own, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    pairs = zip(rows, asked.texts, strict=True)
    to_image = np.stack([pictures[some] @ text for some, text in pairs])
    return Candidates(rows, asked.targets, joint, to_image, first)
