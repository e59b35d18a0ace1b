"""From candidates to answers: a second stage by text, and diversity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.config import SearchSettings
from twinlens.errors import InputError
from twinlens.index import VectorIndex
from twinlens.index.filters import Selection
from twinlens.search.queries import EncodedQueries

DIVERSE_FROM = 10  # times k candidates, where nothing else is said


@dataclass(frozen=True)
class Ranked:
    """Answers of some queries, best first.

    Attributes:
        rows: `(q, k)` rows of the index; -1 behind the end.
        scores: `(q, k)` by which they are ordered.
        stages: `(q, k)` scores of the stages by name: `joint`, and after a second
            stage `text_to_image`, `text_to_title`; NaN where a query has no text.
    """

    rows: np.ndarray
    scores: np.ndarray
    stages: dict[str, np.ndarray]

    def best(self, k: int) -> "Ranked":
        """The first `k` answers."""
        stages = {name: each[:, :k] for name, each in self.stages.items()}
        return Ranked(self.rows[:, :k], self.scores[:, :k], stages)

    def only(self, query: int) -> "Ranked":
        """The answers of one query."""
        own = slice(query, query + 1)
        stages = {name: each[own] for name, each in self.stages.items()}
        return Ranked(self.rows[own], self.scores[own], stages)

    def by(self, scores: np.ndarray) -> "Ranked":
        """In the order of other scores."""
        scores = np.where(self.rows >= 0, scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")
        return Ranked(self.rows, scores, self.stages).reordered(order)

    def reordered(self, order: np.ndarray) -> "Ranked":
        """With the answers of each query in the order of `(q, k)` places."""
        rows, scores, *stages = (
            np.take_along_axis(each, order, 1)
            for each in (self.rows, self.scores, *self.stages.values())
        )
        return Ranked(rows, scores, dict(zip(self.stages, stages, strict=True)))


def joined(parts: Sequence[Ranked]) -> Ranked:
    """Answers of blocks of queries, one behind the other."""
    stages = {
        name: np.concatenate([part.stages[name] for part in parts])
        for name in parts[0].stages
    }
    rows = np.concatenate([part.rows for part in parts])
    return Ranked(rows, np.concatenate([part.scores for part in parts]), stages)


def field_weights(index: VectorIndex, wanted: dict[str, float]) -> dict[str, float]:
    """Weights of the index's fields that sum to one; alike where none are wanted.

    Raises:
        InputError: a weight of a field that is not there, or no weight at all.
    """
    unknown = [name for name in wanted if name not in index.fields]
    if unknown or any(weight < 0 for weight in wanted.values()):
        raise InputError(
            f"search.weights are {wanted}, but {index.folder} has the fields "
            f"{', '.join(index.fields)}. Give each a weight of 0 or more."
        )
    weights = {name: wanted.get(name, 0.0 if wanted else 1.0) for name in index.fields}
    total = sum(weights.values())
    if not total:
        raise InputError("search.weights are all zero. Give one field a weight.")
    return {name: weight / total for name, weight in weights.items()}


def weighted(
    index: VectorIndex, rows: np.ndarray, weights: dict[str, float]
) -> np.ndarray:
    """`(…, dim)` vectors of `(…)` rows whose inner products are joint scores."""
    vectors = np.array(index.vectors[rows])
    for name, span in index.fields.items():
        vectors[..., span] *= weights[name] ** 0.5
    return vectors


def rank(
    queries: EncodedQueries,
    index: VectorIndex,
    settings: SearchSettings,
    where: str | Selection = "",
    exactly: bool = False,
) -> Ranked:
    """The answers to some queries.

    Args:
        queries: of `encode_queries`; with titles where there is a second stage.
        index: to search.
        settings: weights and stages.
        where: filter on attributes, or what is left by one.
        exactly: compare every vector, whatever the backend.

    Raises:
        InputError: weights or a filter that do not fit, or a query that says nothing
            about any field with a weight.
    """
    weights = field_weights(index, settings.weights)
    k = settings.k
    wide = max(k, settings.candidates)
    if settings.diversity and not settings.candidates:
        wide = k * DIVERSE_FROM
    first = weights
    if settings.first_stage == "image" and settings.candidates:
        _check_picture_field(index)
        first = {"image": 1.0}
    vectors = queries.vectors(first)
    _check_says_something(vectors, queries.rows, index, first)
    _, rows = index.search(vectors, wide, where, queries.rows, exactly)
    found = _taken(index, rows)
    joint = np.einsum("qd,qkd->qk", queries.vectors(weights), found)
    ranked = Ranked(rows, joint, {"joint": joint}).by(joint)
    if settings.candidates:
        ranked = _by_text(queries, ranked, index, settings)
    if settings.diversity:
        ranked = _diverse(ranked, index, weights, settings)
    return ranked.best(k)


def _check_picture_field(index: VectorIndex) -> None:
    if "image" not in index.fields:
        raise InputError(
            f"search.first_stage is 'image', but {index.folder} has the fields "
            f"{', '.join(index.fields)}. Set it to 'joint'."
        )


def _check_says_something(
    vectors: np.ndarray,
    rows: np.ndarray,
    index: VectorIndex,
    weights: dict[str, float],
) -> None:
    silent = np.flatnonzero(~vectors.any(axis=1) & (rows < 0))
    if len(silent):
        raise InputError(
            f"Query {silent[0] + 1} of {len(vectors)} says nothing about the fields "
            f"of {index.folder} that have a weight: {weights}. Texts are about image "
            "and title, pictures about image_feature too, items about all that they "
            "have."
        )


def _taken(index: VectorIndex, rows: np.ndarray) -> np.ndarray:
    """`(q, k, dim)` vectors."""
    return index.vectors[np.maximum(rows, 0)]


def _by_text(
    queries: EncodedQueries,
    ranked: Ranked,
    index: VectorIndex,
    settings: SearchSettings,
) -> Ranked:
    """Candidates again, by how their pictures and titles fit the query's text.

    The weighted mean of the scores, of the first stage with weight 1.
    """
    found = _taken(index, ranked.rows)
    spoken = queries.texts.any(axis=1)
    scores = {}
    for name in ("image", "title"):
        scores[name] = np.full(ranked.rows.shape, np.nan, np.float32)
        if name in index.fields:
            block = found[spoken][:, :, index.fields[name]]
            said = queries.texts[spoken]
            scores[name][spoken] = np.einsum("qd,qkd->qk", said, block)
    joint = ranked.stages["joint"]
    to_image, to_title = (np.nan_to_num(each) for each in scores.values())
    image, title = settings.text_to_image, settings.text_to_title
    again = (joint + image * to_image + title * to_title) / (1 + image + title)
    stages = {f"text_to_{name}": each for name, each in scores.items()}
    both = Ranked(ranked.rows, ranked.scores, ranked.stages | stages)
    return both.by(np.where(spoken[:, None], again, joint))


def _diverse(
    ranked: Ranked,
    index: VectorIndex,
    weights: dict[str, float],
    settings: SearchSettings,
) -> Ranked:
    """Maximal marginal relevance: each answer should fit, and add something.

    Reference:
        Carbonell and Goldstein 1998, https://doi.org/10.1145/290941.291025.
    """
    found = weighted(index, np.maximum(ranked.rows, 0), weights)
    likeness = found @ found.transpose(0, 2, 1)
    queries = np.arange(len(found))
    gains = np.full(ranked.rows.shape, -np.inf)
    nearest = np.full(ranked.rows.shape, -1.0)  # the least that a cosine can be
    scores = np.where(ranked.rows >= 0, ranked.scores, 0.0)
    left = ranked.rows >= 0
    for place in range(min(settings.k, ranked.rows.shape[1])):
        share = settings.diversity if place else 0.0
        value = (1 - share) * scores - share * nearest
        chosen = np.where(left, value, -np.inf).argmax(axis=1)
        real = left[queries, chosen]
        gains[queries[real], chosen[real]] = -float(place)
        left[queries, chosen] = False
        nearest = np.maximum(nearest, likeness[queries, chosen])
    return ranked.reordered(np.argsort(-gains, axis=1, kind="stable"))
