"""What an item's vector consists of: unit vectors side by side, one for each field.

A query has the same fields, each times its weight, so that the inner product is the
weighted sum of cosines; weights are free at every query.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from twinlens.embed import Embedder
from twinlens.encoders import text_encoder
from twinlens.encoders.random_text import RandomSize
from twinlens.errors import InputError
from twinlens.features import Features, encode_texts
from twinlens.search.model import SearchModel

SHARED = ("image", "title")  # in the space of texts and pictures
GROWING = ("image", "title", "image_feature", "title_feature")  # of an item alone
KINDS = (
    "image, title (embeddings of the shared space), image_feature, title_feature, "
    "title_feature:128 (reduced by principal components), tfidf, tfidf:128, "
    "attribute:NAME"
)
_WISHES = "its text head reads wishes, which say what should change, and no titles"
NOT_FUSED = {  # fields that a run with a fusion has not, and why
    "title": _WISHES,
    "title_feature": _WISHES,
    "image_feature": "its pictures are features of places, which are no one vector",
}
TFIDF_WORDS = 20_000  # the commonest
TFIDF_DIM = 256  # numbers, where nothing else is said


@dataclass(frozen=True)
class Field:
    """One field of a collection.

    Attributes:
        dim: numbers.
        block: rows of items → `(m, dim)` float32, unit vectors or zeros.
    """

    dim: int
    block: Callable[[np.ndarray], np.ndarray]


@dataclass
class Fields:
    """The fields of a collection.

    Args:
        model: that embeds.
        items: `id`, `image_path`, `title` and attributes.
    """

    model: SearchModel
    items: pd.DataFrame

    @cached_property
    def pictures(self) -> tuple[Features, np.ndarray]:
        """Features of pictures and each item's row."""
        features = self.model.picture_features(self.items)
        return features, features.rows(self.items["id"].to_numpy(object))

    @cached_property
    def titles(self) -> tuple[Features | None, np.ndarray]:
        """Features of titles and each item's row; -1 without a title."""
        if (self.items["title"] == "").all():
            return None, np.full(len(self.items), -1)
        features = self.model.title_features(self.items["title"])
        return features, features.rows(self.items["title"].to_numpy(object))

    def broken(self) -> pd.Series:
        """Why an item has no picture, by id; only those that have none."""
        if "pictures" not in self.__dict__:
            return pd.Series(dtype=str)
        features, rows = self.pictures
        reasons = pd.Series(features.errors, index=features.ids)
        return reasons.reindex(self.items["id"][rows < 0])

    def check(self, names: Iterable[str]) -> None:
        """Refuses fields that cannot be made, before anything is encoded.

        Raises:
            InputError: of no kind, an attribute that is not there, titles where there
                are none, or what a run with a fusion has not.
        """
        for name in names:
            kind, _, rest = name.partition(":")
            if self.model.fusion and kind in NOT_FUSED:
                raise InputError(
                    f"index.fields has {name!r}, but {self.model.name} has a fusion: "
                    f"{NOT_FUSED[kind]}. Take image, attribute:NAME or tfidf."
                )
            counted = kind in ("image_feature", "title_feature", "tfidf")
            if kind == "attribute" and rest:
                _check_attribute(self.items, rest)
            elif name not in SHARED and not (counted and re.fullmatch(r"\d*", rest)):
                raise InputError(f"index.fields has {name!r}. Known: {KINDS}.")
            if kind in ("title_feature", "tfidf") and (self.items["title"] == "").all():
                raise InputError(
                    f"index.fields has {name!r}, but none of these {len(self.items)} "
                    "items has a title. Set \"index.fields=['image']\"."
                )

    def named(self, name: str) -> Field:
        """One field; see `KINDS`."""
        kind, _, rest = name.partition(":")
        model = self.model
        if name == "image":
            embed = model.embed_image_features
            return _embedded(*self.pictures, embed, model, model.average_views)
        if name == "title":
            return _embedded(*self.titles, model.embed_text_features, model, False)
        if kind == "image_feature":
            return _raw(*self.pictures, int(rest or 0), name)
        if kind == "title_feature":
            return _raw(*self.titles, int(rest or 0), name)
        if kind == "tfidf":
            return _tfidf(self.items["title"], int(rest or TFIDF_DIM), model)
        return _one_hot(self.items, rest)


def _embedded(
    features: Features | None,
    rows: np.ndarray,
    embedder: Embedder,
    model: SearchModel,
    average: bool,
) -> Field:
    def block(items: np.ndarray) -> np.ndarray:
        wanted = rows[items]
        there = wanted >= 0
        found = np.zeros((len(items), model.embedding_dim), np.float32)
        if there.any():
            found[there] = embedder(features.values, wanted[there], average)
        return found

    return Field(model.embedding_dim, block)


def _raw(features: Features, rows: np.ndarray, dim: int, name: str) -> Field:
    """The base encoder's own features, of view 0."""
    values = features.values if features.values.ndim == 2 else features.values[:, 0]
    if not dim:
        return Field(values.shape[1], lambda items: _picked(values, rows[items]))
    if dim > min(values.shape):
        raise InputError(
            f"index.fields has {name!r}, but {len(values)} items of {values.shape[1]} "
            f"numbers have at most {min(values.shape)} principal components."
        )
    mean, axes = principal_components(values, dim)

    def block(items: np.ndarray) -> np.ndarray:
        found = (_picked(values, rows[items], norm=False) - mean) @ axes.T
        found[rows[items] < 0] = 0
        return unit(found)

    return Field(dim, block)


def principal_components(values: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean `(d,)` and the `(dim, d)` directions in which values differ most."""
    total, square = np.zeros(values.shape[1]), np.zeros((values.shape[1],) * 2)
    for start in range(0, len(values), 8192):
        block = np.asarray(values[start : start + 8192], np.float64)
        total += block.sum(axis=0)
        square += block.T @ block
    mean = total / len(values)
    covariance = square / len(values) - np.outer(mean, mean)
    _, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :dim].T
    return mean.astype(np.float32), axes.astype(np.float32)


def _tfidf(titles: pd.Series, dim: int, model: SearchModel) -> Field:
    size = RandomSize(vocabulary_size=TFIDF_WORDS, hidden_dim=dim)
    encoder = text_encoder("tfidf", corpus=titles, size=size)
    features = encode_texts(encoder, titles, cache=model.cache.path)
    rows = features.rows(titles.to_numpy(object))
    return Field(features.values.shape[1], lambda i: _picked(features.values, rows[i]))


def _check_attribute(items: pd.DataFrame, column: str) -> None:
    if column not in items:
        raise InputError(
            f"index.fields has 'attribute:{column}', which these items do not have. "
            f"Their attributes: {', '.join(items.columns)}."
        )


def _one_hot(items: pd.DataFrame, column: str) -> Field:
    """One number for each value of an attribute."""
    codes, values = pd.factorize(items[column])
    table = np.eye(len(values), dtype=np.float32)

    def block(rows: np.ndarray) -> np.ndarray:
        found = table[codes[rows]]
        found[codes[rows] < 0] = 0
        return found

    return Field(len(values), block)


def unit(vectors: np.ndarray) -> np.ndarray:
    """`(n, dim)` vectors of length one; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _picked(values: np.ndarray, rows: np.ndarray, norm: bool = True) -> np.ndarray:
    """Rows of a memory map, zeros for row -1."""
    found = np.asarray(values[np.maximum(rows, 0)], np.float32)
    found[rows < 0] = 0
    return unit(found) if norm else found
