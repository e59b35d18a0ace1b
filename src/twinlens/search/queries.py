"""Queries as vectors: text, picture, both, or an item of the index."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.index import VectorIndex
from twinlens.search.fields import SHARED, unit
from twinlens.search.model import Picture, SearchModel


@dataclass(frozen=True)
class Query:
    """What is looked for: one of them, or text beside one of the others.

    Attributes:
        text: what it should show.
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
        texts: `(q, embedding_dim)` of each query's text, or of its item's title;
            zeros where there is neither.
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
    text_weight: float = 0.5,
    titles_too: bool = False,
) -> EncodedQueries:
    """Embeds queries in one pass for each kind.

    Args:
        queries: to encode.
        index: whose fields and items they are about.
        model: gives the model of the index; called only if something has to be
            embedded.
        text_weight: of a query's text beside its picture or item, 0 to 1.
        titles_too: whether an item without a text beside it speaks by its title.

    Raises:
        InputError: an unknown item, an empty text, a file that is no picture, or a
            text where no field of the index can be compared with one.
    """
    rows = np.full(len(queries), -1)
    of_items = [i for i, query in enumerate(queries) if query.item]
    if of_items:
        rows[of_items] = index.rows(queries[i].item for i in of_items)
    seen = _seen(queries, index, model, rows)
    texts = _texts([query.text for query in queries], index, model)
    for name in seen.keys() & SHARED:
        seen[name] = _joined(seen[name], texts, text_weight)
    if titles_too:
        texts = np.where(
            texts.any(axis=1, keepdims=True), texts, _titles(rows, index, model)
        )
    return EncodedQueries(seen, texts, rows)


def _joined(picture: np.ndarray, text: np.ndarray, text_weight: float) -> np.ndarray:
    """The weighted sum where a query has both, else what it has."""
    has_text = text.any(axis=1, keepdims=True)
    has_picture = picture.any(axis=1, keepdims=True)
    weight = np.where(has_picture, np.where(has_text, text_weight, 0), 1)
    return unit(weight * text + (1 - weight) * picture)


def _seen(
    queries: Sequence[Query],
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
    shown = [i for i, query in enumerate(queries) if query.image is not None]
    if shown:
        features = model().image_features([queries[i].image for i in shown])
        embedded = model().embed_image_features(features, np.arange(len(features)))
        for name in seen.keys() & SHARED:
            seen[name][shown] = embedded
        if "image_feature" in seen:
            seen["image_feature"][shown] = unit(features)
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
