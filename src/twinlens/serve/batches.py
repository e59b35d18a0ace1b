"""Searches and embeddings of many clients at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twinlens.config import SearchSettings
from twinlens.embed import Embedder
from twinlens.errors import InputError
from twinlens.index.filters import Selection
from twinlens.search import Query, SearchIndex, SearchModel
from twinlens.search.model import Picture
from twinlens.search.ranking import Ranked

PICTURES_AT_ONCE = 16  # in one forward pass: bounds the memory of wide networks
PICTURE_SIZE = 4  # a picture counts as so many texts of a batch

Pixels = Mapping[bytes, np.ndarray]  # by the file's bytes, as the encoder wants them


@dataclass(frozen=True)
class Search:
    """One query of one client.

    Attributes:
        index: in which.
        query: its picture as bytes.
        settings: weights, stages, k.
        selection: what may be found.
        where: the filter of the selection, in words.
        pixels: of the query's picture.
    """

    index: SearchIndex
    query: Query
    settings: SearchSettings
    selection: Selection
    where: str = ""
    pixels: Pixels = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, ...]:
        """What has to be encoded."""
        return (self.query.text,) if self.query.text else ()

    @property
    def size(self) -> int:
        """Its share of a batch."""
        return 1 + PICTURE_SIZE * len(self.pixels)

    @property
    def kind(self) -> tuple[int, str, str]:
        """Searches of one kind are ranked in one call."""
        return id(self.index), self.settings.model_dump_json(), self.where


@dataclass(frozen=True)
class Embed:
    """Texts and pictures of one client, to be vectors."""

    texts: tuple[str, ...]
    pictures: tuple[bytes, ...] = ()
    pixels: Pixels = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Its share of a batch."""
        return len(self.texts) + PICTURE_SIZE * len(self.pixels)


@dataclass(frozen=True)
class Embedded:
    """Unit vectors, `(n, embedding_dim)` each."""

    texts: np.ndarray
    pictures: np.ndarray


def answer(
    model: SearchModel, jobs: Sequence[Search | Embed]
) -> list[Ranked | Embedded | Exception]:
    """Encodes everything in one pass for each kind, then ranks like with like.

    Returns:
        For each job its answers (a `Ranked` of one query) or vectors, or the
        `InputError` that is its own fault only.
    """
    encoded = EncodedModel(model, jobs)
    results: list = [None] * len(jobs)
    kinds: dict[tuple, list[int]] = {}
    for number, job in enumerate(jobs):
        if isinstance(job, Embed):
            results[number] = encoded.embedded(job)
        else:
            kinds.setdefault(job.kind, []).append(number)
    for numbers in kinds.values():
        index = jobs[numbers[0]].index
        view = SearchIndex(index.vectors, index.defaults, index.run, encoded)
        found = _ranked(view, [jobs[number] for number in numbers])
        for number, each in zip(numbers, found, strict=True):
            results[number] = each
    return results


def _ranked(view: SearchIndex, searches: list[Search]) -> list[Ranked | Exception]:
    first = searches[0]
    queries = [search.query for search in searches]
    try:
        found = view.ranked(queries, first.selection, first.settings)
    except InputError as error:
        if len(searches) == 1:
            return [error]
        return [each for search in searches for each in _ranked(view, [search])]
    return [found.only(number) for number in range(len(searches))]


class EncodedModel:
    """A model that has encoded the texts and pictures of a batch already.

    It takes the place of a `SearchModel` where queries become vectors.
    """

    def __init__(self, model: SearchModel, jobs: Sequence[Search | Embed]) -> None:
        self._model = model
        texts = list(dict.fromkeys(text for job in jobs for text in job.texts))
        pixels = {name: each for job in jobs for name, each in job.pixels.items()}
        vectors = model.embed_texts(texts) if texts else ()
        self._texts = dict(zip(texts, vectors, strict=True))
        self._features = dict(
            zip(pixels, self._encode([*pixels.values()]), strict=True)
        )

    def _encode(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        starts = range(0, len(pixels), PICTURES_AT_ONCE)
        parts = [np.stack(pixels[s : s + PICTURES_AT_ONCE]) for s in starts]
        return [row for part in parts for row in self._model.pixel_features(part)]

    def embedded(self, job: Embed) -> Embedded:
        """The vectors of a job of this batch."""
        shape = (0, self._model.embedding_dim)
        texts = pictures = np.zeros(shape, np.float32)
        if job.texts:
            texts = self.embed_texts(job.texts)
        if job.pictures:
            features = self.image_features(job.pictures)
            pictures = self.embed_image_features(features, np.arange(len(features)))
        return Embedded(texts, pictures)

    # === What queries ask of a model ===

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """As `SearchModel.embed_texts`."""
        others = [text for text in texts if text not in self._texts]  # titles of items
        if others:
            vectors = self._model.embed_texts(others)
            self._texts |= dict(zip(others, vectors, strict=True))
        return np.stack([self._texts[text] for text in texts])

    def image_features(self, pictures: Sequence[Picture]) -> np.ndarray:
        """As `SearchModel.image_features`."""
        others = [each for each in pictures if each not in self._features]  # of items
        if others:
            features = self._model.image_features(others)
            self._features |= dict(zip(others, features, strict=True))
        return np.stack([self._features[picture] for picture in pictures])

    def compose(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """As `SearchModel.compose`."""
        return self._model.compose(images, texts)

    @property
    def embed_image_features(self) -> Embedder:
        """As `SearchModel.embed_image_features`."""
        return self._model.embed_image_features
