"""Pictures and captions as files and texts: what the encoders themselves learn from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from twinlens.config import Phase2Settings
from twinlens.data import images
from twinlens.data.segmentation import Segment
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.training.pairs import Epoch, label_numbers, pair_ids

AHEAD = 2  # batches that wait, so that the networks never do
ANY_ASPECT = (3 / 4, 4 / 3)  # of a crop, relative to the picture's
SAME = (1.0, 1.0)


@dataclass(frozen=True)
class RawPairs:
    """The pairs of one split, as files and texts.

    Attributes:
        image_ids: `(pictures,)` names.
        paths: `(pictures,)` files.
        texts: `(texts,)` distinct captions.
        text_rows: `(captions,)` the text of each caption, grouped by picture.
        first_caption: `(pictures + 1,)`: the captions of picture `i` are
            `text_rows[first_caption[i]:first_caption[i + 1]]`.
        labels: `(pictures,)` numbers of their labels, for losses that want them.
    """

    image_ids: np.ndarray
    paths: np.ndarray
    texts: np.ndarray
    text_rows: np.ndarray
    first_caption: np.ndarray
    labels: np.ndarray | None = None
    views = 1

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def picture_of_caption(self) -> np.ndarray:
        """`(captions,)` the position of each caption's picture."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_caption))


def raw_pairs(
    table: pd.DataFrame, broken: Iterable[str] = (), label: str = ""
) -> RawPairs:
    """The pairs of a caption table, without broken pictures.

    Pictures stand in the order of the table, captions in the order of pictures, as
    in `pair_features`; `label` names the attribute that labels them, if any.
    """
    table = table[~table["image_id"].isin(list(broken))]
    pictures, names = pd.factorize(table["image_id"].to_numpy(dtype=object))
    order = np.argsort(pictures, kind="stable")
    first_rows = np.searchsorted(pictures[order], np.arange(len(names) + 1))
    text_rows, texts = pd.factorize(table["caption"].to_numpy(dtype=object))
    paths = table["image_path"].to_numpy(dtype=object)[order][first_rows[:-1]]
    labels = label_numbers(table, label) if label else None
    return RawPairs(names, paths, texts, text_rows[order], first_rows, labels)


class Batch(NamedTuple):
    """A batch of pairs.

    Attributes:
        pixels: `(batch, size, size, 3)` float32, 0…255.
        tokens: what the text model takes, each `(batch, length)` int32.
        ids: `(batch, 2)` or `(batch, 3)` int32, as the loss wants them: picture, text
            and perhaps label of each pair.
    """

    pixels: tf.Tensor
    tokens: dict[str, tf.Tensor]
    ids: tf.Tensor


class RawBatches:
    """Decodes, augments and tokenises ahead of the training.

    Args:
        pairs: of the training split.
        image_encoder, text_encoder: whose preprocessing it is.
        settings: which augmentations.
        seed: of the augmentations.
        share: of every batch, `(number, of how many)`: only its rows are read.
    """

    def __init__(
        self,
        pairs: RawPairs,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        settings: Phase2Settings,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.pairs, self.seed, self.share = pairs, seed, share
        self._inputs_of = text_encoder.inputs_of
        self._pixels = pixels_function(image_encoder, settings)

    def __call__(
        self, epoch: Epoch, number: int, first: int, last: int
    ) -> tf.data.Dataset:
        """Steps `first` to `last - 1` of epoch `number`; the same at every call."""
        steps, whole = epoch.pictures.shape
        number_here, of = self.share
        batch_size = whole // of
        mine = np.s_[number_here * batch_size : (number_here + 1) * batch_size]
        places = np.arange(steps * whole).reshape(steps, whole)
        pictures, text_rows, places = (
            rows[first:last, mine].ravel()
            for rows in (epoch.pictures, epoch.text_rows, places)
        )
        draws = np.random.default_rng([self.seed, number]).integers(2**31)
        seeds = np.stack([np.full(len(places), draws), places], axis=1)
        rows = (
            self.pairs.paths[pictures].astype(str),
            self.pairs.texts[text_rows].astype(str),
            pair_ids(self.pairs, pictures, text_rows),
            seeds.astype(np.int32),
        )
        data = tf.data.Dataset.from_tensor_slices(rows)
        data = data.map(self._load, num_parallel_calls=tf.data.AUTOTUNE)
        data = data.batch(batch_size).map(self._tokenized)
        return data.prefetch(AHEAD)

    def _load(self, path, text, ids, seed):
        return self._pixels(tf.io.read_file(path), seed), text, ids

    def _tokenized(self, pixels, texts, ids):
        return Batch(pixels, self._inputs_of(texts), ids)


def pixels_function(encoder: ImageEncoder, settings: Phase2Settings) -> Callable:
    """Bytes and a seed to augmented pixels, as an encoder and settings want them."""
    return _pixels_function(
        encoder.image_size,
        encoder.resize,
        encoder.segment,
        settings.crop,
        settings.flip,
        settings.colour,
    )


@cache
def _pixels_function(
    size: int,
    resize: str,
    segment: Segment | None,
    crop: float,
    flip: bool,
    colour: float,
) -> Callable:
    """Bytes and a seed to `(size, size, 3)` pixels; traced once, not at every epoch."""

    def pixels(contents, seed):
        if crop == 1 and not flip and not colour:
            return images.prepare(contents, size, resize, segment)
        image = images.augment(
            images.decode(contents, images.ENOUGH * size, segment),
            seed,
            area_range=(crop, 1.0),
            aspect_range=SAME if crop == 1 else ANY_ASPECT,
            flip=flip,
            brightness=colour,
            contrast=colour,
            saturation=colour,
        )
        return images.fit(image, size, resize)

    return tf.function(
        pixels,
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)],
    )
