"""Triplets as files and texts: what encoders and fusion learn from together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf

from twinlens.config import Phase2Settings
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.training.raw import AHEAD, Batch, pixels_function
from twinlens.training.triplets import TripletEpoch, group_numbers


@dataclass(frozen=True)
class RawTriplets:
    """The triplets of one split, as files and texts.

    Attributes:
        image_ids: `(pictures,)` names.
        paths: `(pictures,)` files.
        texts: `(texts,)` distinct wishes.
        references: `(triplets,)` position of each reference among the pictures.
        targets: `(triplets,)` of each target.
        text_rows: `(triplets,)` of each wish among the texts.
        groups: `(triplets,)` numbers; equal ones may stand together in a batch.
        table: the triplets, in this order.
        galleries: by category, positions of the pictures that its queries search.
        keeps_reference: whether a query's reference is among its answers.
    """

    image_ids: np.ndarray
    paths: np.ndarray
    texts: np.ndarray
    references: np.ndarray
    targets: np.ndarray
    text_rows: np.ndarray
    groups: np.ndarray
    table: pd.DataFrame
    galleries: Mapping[str, np.ndarray]
    keeps_reference: bool = True
    views = 1

    def __len__(self) -> int:
        return len(self.references)


def raw_triplets(
    table: pd.DataFrame,
    paths: Mapping[str, str],
    galleries: Mapping[str, np.ndarray],
    together: str = "",
    keeps_reference: bool = True,
) -> RawTriplets:
    """The triplets whose pictures have a file.

    Args:
        table: triplets of one split.
        paths: file of each good picture.
        galleries: by category, ids of pictures.
        together: attribute that groups triplets, if any.
        keeps_reference: whether a query's reference is among its answers.
    """
    ids = pd.Index(paths)
    references = ids.get_indexer(table["reference_id"])
    targets = ids.get_indexer(table["target_id"])
    good = (references >= 0) & (targets >= 0)
    kept = table[good].reset_index(drop=True)
    text_rows, texts = pd.factorize(kept["wish"].to_numpy(dtype=object))
    searched = {c: ids.get_indexer(each) for c, each in galleries.items()}
    return RawTriplets(
        np.array(list(paths), dtype=object),
        np.array(list(paths.values()), dtype=object),
        texts,
        references[good],
        targets[good],
        text_rows,
        group_numbers(kept, together),
        kept,
        {c: rows[rows >= 0] for c, rows in searched.items()},
        keeps_reference,
    )


class TripletBatches:
    """Decodes, augments and tokenises ahead of the training.

    A picture that several triplets of a batch share is read and encoded once.

    Args:
        triplets: of the training split.
        image_encoder, text_encoder: whose preprocessing it is.
        settings: which augmentations.
        seed: of the augmentations.
    """

    def __init__(
        self,
        triplets: RawTriplets,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        settings: Phase2Settings,
        seed: int,
    ) -> None:
        self.triplets, self.seed = triplets, seed
        self._encoder = text_encoder
        self.length = longest(text_encoder, triplets.texts)
        self._pixels = pixels_function(image_encoder, settings)

    def __call__(
        self, epoch: TripletEpoch, number: int, first: int, last: int
    ) -> tf.data.Dataset:
        """Steps `first` to `last - 1` of epoch `number`; the same at every call."""
        steps, count = epoch.pictures.shape
        draws = np.random.default_rng([self.seed, number]).integers(2**31)
        places = np.arange(steps * count).reshape(steps, count)[first:last]
        seeds = np.stack([np.full(places.shape, draws), places], axis=-1)
        pictures = tf.data.Dataset.from_tensor_slices(
            (
                self.triplets.paths[epoch.pictures[first:last]].reshape(-1).astype(str),
                seeds.reshape(-1, 2).astype(np.int32),
            )
        )
        pictures = pictures.map(self._load, num_parallel_calls=tf.data.AUTOTUNE)
        ids = epoch.ids(self.triplets)
        rows = self.triplets.text_rows[epoch.triplets[first:last]]
        texts = self.triplets.texts[rows].astype(str)
        wishes = tf.data.Dataset.from_tensor_slices(
            (texts, {name: each[first:last] for name, each in ids.items()})
        )
        data = tf.data.Dataset.zip(pictures.batch(count), wishes)
        return data.map(self._tokenized).prefetch(AHEAD)

    def _load(self, path, seed):
        return self._pixels(tf.io.read_file(path), seed)

    def _tokenized(self, pixels, wish):
        texts, ids = wish
        tokens = self._encoder.pack(self._encoder.tokenize(texts), self.length)
        return Batch(pixels, tokens, ids)


def longest(encoder: TextEncoder, texts: np.ndarray) -> int:
    """Tokens of the longest text."""
    lengths = encoder.tokenize(tf.constant(texts.astype(str))).row_lengths()
    return int(tf.reduce_max(lengths))
