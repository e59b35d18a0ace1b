"""What an export is asked to prove itself, and what the run itself answers."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image

from twinlens.encoders import ImageEncoder
from twinlens.errors import BrokenImageError, InputError
from twinlens.search import Query, SearchIndex, SearchModel

TEXTS, PICTURES = 8, 6  # asked
LOOKED_AT = 200  # pictures among which different sizes are looked for
K = 10  # answers of a search

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Samples:
    """Real texts and pictures.

    Attributes:
        texts: captions, the shortest and the longest among them.
        pictures: files, of different sizes where the data have such.
    """

    texts: list[str]
    pictures: list[str]

    @classmethod
    def of(cls, table: pd.DataFrame, encoder: ImageEncoder) -> "Samples":
        """Some of a caption table, always the same.

        Raises:
            InputError: it has no text or no picture that can be read.
        """
        captions = sorted(set(table["caption"]) - {""}, key=lambda x: (len(x), x))
        places = np.linspace(0, len(captions) - 1, min(TEXTS, len(captions)))
        files = table["image_path"].drop_duplicates().head(LOOKED_AT).tolist()
        readable = (each for each in _by_size(files) if _is_readable(each, encoder))
        pictures = list(itertools.islice(readable, PICTURES))
        if not (captions and pictures):
            raise InputError(
                f"An export is compared with its run on the run's data, but of these "
                f"{len(captions)} texts can be used and {len(pictures)} of the first "
                f"{len(files)} pictures can be read. Check the data's path."
            )
        return cls([captions[int(place)] for place in places], pictures)


def _by_size(files: Sequence[str]) -> list[str]:
    """A file of each size first, then the others."""
    first: dict[tuple[int, int], str] = {}
    for file in files:
        try:
            with Image.open(file) as picture:
                first.setdefault(picture.size, file)
        except OSError:
            continue
    return [*first.values(), *(each for each in files if each not in first.values())]


def _is_readable(file: str, encoder: ImageEncoder) -> bool:
    try:
        encoder.load(file)
    except BrokenImageError:
        return False  # training has counted and listed it
    return True


def questions(samples: Samples, model: SearchModel) -> Mapping[str, Arrays]:
    """Inputs by endpoint, of every endpoint that there may be."""
    texts = np.array(samples.texts, object)
    contents = [Path(each).read_bytes() for each in samples.pictures]
    images, k = np.array(contents, object), np.int32(K)
    encoder = model.text_encoder
    tokens = encoder.padded(encoder.tokenize(tf.constant(texts)))
    tokens.pop("segment_ids")
    pairs = min(len(texts), len(images))
    return {
        "encode_text": {"texts": texts},
        "tokenize": {"texts": texts},
        "encode_tokens": {name: each.numpy() for name, each in tokens.items()},
        "encode_image": {"images": images},
        "encode_pixels": {
            "pixels": np.stack([model.image_encoder.load(each) for each in contents])
        },
        "compose": {"images": images[:pairs], "texts": texts[:pairs]},
        "search_text": {"texts": texts, "k": k},
        "search_image": {"images": images, "k": k},
    }


def answers(
    asked: Mapping[str, Arrays],
    model: SearchModel,
    index: SearchIndex | None,
    takes_texts: bool = True,
) -> Mapping[str, Arrays]:
    """What the run and its index answer to `questions`.

    Args:
        asked: `questions`.
        model: of the run.
        index: its collection, if there is one.
        takes_texts: whether a text says something about its items.
    """
    texts = list(asked["encode_text"]["texts"])
    features = model.image_features(list(asked["encode_image"]["images"]))
    of_texts = {"embedding": model.embed_texts(texts)}
    rows = np.arange(len(features))
    of_images = {"embedding": model.embed_image_features(features, rows)}
    found = {
        "encode_text": of_texts,
        "tokenize": asked["encode_tokens"],
        "encode_tokens": of_texts,
        "encode_image": of_images,
        "encode_pixels": of_images,
    }
    if model.fusion:
        pairs = len(asked["compose"]["texts"])
        composed = model.compose(features[:pairs], texts[:pairs])
        found["compose"] = {"embedding": composed}
    if index is not None:
        pictures = asked["search_image"]["images"]
        found["search_image"] = _found(index, [Query(image=x) for x in pictures])
        if takes_texts:
            found["search_text"] = _found(index, [Query(text) for text in texts])
    return found


def _found(index: SearchIndex, queries: list[Query]) -> Arrays:
    settings = index.settings(k=min(K, len(index)), candidates=0, diversity=0)
    ranked = index.ranked(queries, settings=settings, exactly=True)
    items = index.vectors.items
    return {
        "scores": ranked.scores,
        "ids": items["id"].to_numpy(object)[ranked.rows],
        "titles": items["title"].to_numpy(object)[ranked.rows],
    }
