"""Queries as vectors: text, picture, both, or an item of the index."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.config import SearchSettings
from twinlens.errors import InputError
from twinlens.index import VectorIndex
from twinlens.search.fields import SHARED, unit
from twinlens.search.model import Picture, SearchModel, no_fusion


@dataclass(frozen=True)
class Query:
    """What is looked for: one of them, or text beside one of the others.

    Attributes:
        text: what it should show; to a fusion beside a picture, what should change.
        image: file of a picture, or its bytes.
        item: id of an item of the index, which is not found itself.
    """

    text: str = ""
    image: Picture | None = None
    item: str = ""

    def __post_init__(self) -> None:
        if self.image is not None and self.item:
            raise InputError(
                "A query has a picture or an item, not both; a text beside either."
            )
        if not (self.text or self.image is not None or self.item):
            raise InputError("The query is empty. Give a text, a picture or an item.")


@dataclass(frozen=True)
class EncodedQueries:
    """Queries in the shared space.

    Attributes:
        blocks: by field of the index, `(q, dim)` float32 unit vectors; zeros where a
            query says nothing about a field.
        texts: `(q, embedding_dim)` of each query's text alone, or of its item's
            title; zeros where there is neither.
        rows: `(q,)` row of each query's item, or -1.
    """

    blocks: dict[str, np.ndarray]
    texts: np.ndarray
    rows: np.ndarray

    def vectors(self, weights: dict[str, float]) -> np.ndarray:
        """`(q, dim)`: the fields side by side, each times its weight."""
        parts = [block * weights.get(name, 0) for name, block in self.blocks.items()]
        return np.concatenate(parts, axis=1, dtype=np.float32)


def encode_queries(
    queries: Sequence[Query],
    index: VectorIndex,
    model: Callable[[], SearchModel],
    settings: SearchSettings | None = None,
) -> EncodedQueries:
    """Embeds queries in one pass for each kind.

    An item without a text beside it speaks by its title where there is a second stage,
    but not to a fusion, which reads wishes only.

    Args:
        queries: to encode.
        index: whose fields and items they are about.
        model: gives the model of the index; called only if something has to be
            embedded.
        settings: how a text goes with a picture or item, and whether there is a
            second stage.

    Raises:
        InputError: an unknown item, an empty text, a file that is no picture, a text
            where no field of the index can be compared with one, or as `is_fused`.
    """
    settings = settings or SearchSettings()
    fused = is_fused(index, settings)
    rows = np.full(len(queries), -1)
    of_items = [i for i, query in enumerate(queries) if query.item]
    if of_items:
        rows[of_items] = index.rows(queries[i].item for i in of_items)
    features = _features(queries, index, model, rows if fused else None)
    seen = _seen(queries, features, index, model, rows)
    texts = _texts([query.text for query in queries], index, model)
    for name in seen.keys() & SHARED:
        seen[name] = _joined(seen[name], texts, settings.text_weight)
    both = [i for i in features if queries[i].text] if fused else []
    if both:
        images = np.stack([features[i] for i in both])
        seen["image"][both] = model().compose(images, [queries[i].text for i in both])
    if settings.candidates and not index.info["model"].get("fusion"):
        texts = np.where(
            texts.any(axis=1, keepdims=True), texts, _titles(rows, index, model)
        )
    return EncodedQueries(seen, texts, rows)


def is_fused(index: VectorIndex, settings: SearchSettings) -> bool:
    """Whether a picture and a text go through the trained fusion of the index's run.

    Raises:
        InputError: there is none, or it is given a weight, which it has not.
    """
    made_by = index.info["model"]
    if settings.fusion == "sum" or not made_by.get("fusion"):
        if settings.fusion == "trained":
            raise InputError(no_fusion(made_by["name"]))
        return False
    if settings.text_weight != SearchSettings().text_weight:
        raise InputError(
            f"search.text_weight is {settings.text_weight:g}, but the fusion "
            f"{made_by['fusion']!r} of {made_by['name']} has learned what a text "
            "changes and takes no weight. Leave it away, or add the two sides by "
            "weight with --set fusion=sum."
        )
    return True


def _joined(picture: np.ndarray, text: np.ndarray, text_weight: float) -> np.ndarray:
    """The weighted sum where a query has both, else what it has."""
    has_text = text.any(axis=1, keepdims=True)
    has_picture = picture.any(axis=1, keepdims=True)
    weight = np.where(has_picture, np.where(has_text, text_weight, 0), 1)
    return unit(weight * text + (1 - weight) * picture)


def _features(
    queries: Sequence[Query],
    index: VectorIndex,
    model: Callable[[], SearchModel],
    rows: np.ndarray | None,
) -> dict[int, np.ndarray]:
    """Features of pictures by query; with `rows` also of items that have a text."""
    shown = {i: q.image for i, q in enumerate(queries) if q.image is not None}
    if rows is not None:
        paths = index.items["image_path"]
        shown |= {
            i: paths.iloc[rows[i]] for i, q in enumerate(queries) if q.item and q.text
        }
    if not shown:
        return {}
    return dict(zip(shown, model().image_features([*shown.values()]), strict=True))


def _seen(
    queries: Sequence[Query],
    features: dict[int, np.ndarray],
    index: VectorIndex,
    model: Callable[[], SearchModel],
    rows: np.ndarray,
) -> dict[str, np.ndarray]:
    """By field: an item's own vectors, or what a picture gives."""
    seen = {}
    of_items = np.flatnonzero(rows >= 0)
    for name, span in index.fields.items():
        seen[name] = np.zeros((len(queries), span.stop - span.start), np.float32)
        seen[name][of_items] = index.vectors[rows[of_items], span]
    shown = [i for i in features if queries[i].image is not None]
    if shown:
        values = np.stack([features[i] for i in shown])
        embedded = model().embed_image_features(values, np.arange(len(values)))
        for name in seen.keys() & SHARED:
            seen[name][shown] = embedded
        if "image_feature" in seen:
            seen["image_feature"][shown] = unit(values)
    return seen


def _texts(
    texts: Sequence[str], index: VectorIndex, model: Callable[[], SearchModel]
) -> np.ndarray:
    """`(q, embedding_dim)` of texts, zeros for those that are empty."""
    given = [i for i, text in enumerate(texts) if text]
    spans = [span for name, span in index.fields.items() if name in SHARED]
    if not spans:
        if given:
            raise InputError(
                f"{index.folder} has the fields {', '.join(index.fields)}; a text can "
                "be compared with image and title only. Build it with one of these."
            )
        return np.zeros((len(texts), 1), np.float32)
    found = np.zeros((len(texts), spans[0].stop - spans[0].start), np.float32)
    if given:
        found[given] = model().embed_texts([texts[i] for i in given])
    return found


def _titles(
    rows: np.ndarray, index: VectorIndex, model: Callable[[], SearchModel]
) -> np.ndarray:
    """Embeddings of items' titles, as the index has them or embedded now."""
    if "title" in index.fields:
        vectors = np.array(index.vectors[np.maximum(rows, 0), index.fields["title"]])
        vectors[rows < 0] = 0
        return vectors
    titles = index.items["title"]
    if not index.fields.keys() & SHARED:
        return np.zeros((len(rows), 1), np.float32)
    return _texts([titles.iloc[row] if row >= 0 else "" for row in rows], index, model)
