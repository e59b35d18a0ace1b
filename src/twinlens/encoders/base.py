"""What an encoder is, and what all of them need: precision, blocks, identity."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from twinlens.data import images
from twinlens.data.segmentation import Segment


@dataclass(frozen=True)
class ImageEncoder:
    """Pixels to features.

    Attributes:
        model: Keras model `(n, image_size, image_size, 3)` float32 pixels from 0 to
            255 → `(n, feature_dim)` float32. The network's own scaling is inside.
            It computes in float32.
        image_size: pixels a side.
        resize: how a picture becomes square, `"stretch"` or `"pad"`.
        description: what identifies the features: settings and a digest of weights.
        block_end: pattern of the names of layers that end a block; blocks freeze and
            unfreeze together (`blocks`).
        dtype: in which caches are filled, `"float32"` or `"bfloat16"`.
        from_random: whether weights are random, so that batch normalisation has to
            train.
        similarity: of a ready pair; see `PictureNetwork`.
        segment: cuts the product out before it becomes square, where it is set.
        places: rows and columns of the places of a feature of tokens, row by row in
            the feature; none of one vector, or where they are not known.
    """

    model: keras.Model
    image_size: int
    resize: str
    description: dict[str, Any]
    block_end: str
    dtype: str = "float32"
    from_random: bool = False
    similarity: tuple[float, float | None] | None = None
    segment: Segment | None = None
    places: tuple[int, int] | None = None

    @property
    def feature_dim(self) -> int:
        """Numbers a picture, or a place of it with pooling `"tokens"`."""
        return self.model.output_shape[-1]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Of one picture: `(feature_dim,)`, or `(places, feature_dim)`."""
        return tuple(self.model.output_shape[1:])

    def prepare(self, contents: tf.Tensor) -> tf.Tensor:
        """`images.prepare` as this encoder wants its pixels. Graph code."""
        return images.prepare(contents, self.image_size, self.resize, self.segment)

    def load(self, path: str | Path) -> np.ndarray:
        """`images.load` as this encoder wants its pixels."""
        return images.load(path, self.image_size, self.resize, self.segment)


@dataclass(frozen=True)
class TextEncoder:
    """Texts to features.

    Attributes:
        model: Keras model: dict of some of `token_ids`, `padding_mask` and
            `segment_ids`, each `(n, length)` int32 → `(n, feature_dim)` float32.
        tokenize: `(n,)` string tensor → ragged `(n, None)` int32 token ids with the
            start and end tokens, cut to the sequence length. Graph code.
        description: what identifies the features: settings, tokens, weights.
        block_end: pattern of the names of layers that end a block.
        pad_id: token that stands behind a text's end.
        length: tokens that the network always wants; 0 where any number will do.
        from_random: whether weights are random.
        tokenizer: holds the tables of `tokenize`; an export has to track it.
    """

    model: keras.Model
    tokenize: Callable
    description: dict[str, Any]
    block_end: str
    pad_id: int = 0
    length: int = 0
    from_random: bool = False
    tokenizer: Any = None

    @property
    def feature_dim(self) -> int:
        """Numbers a text, or a token of it with pooling `"tokens"`."""
        return self.model.output_shape[-1]

    @property
    def gives_tokens(self) -> bool:
        """Whether a text's feature is `(length, feature_dim)`, zeros behind its end."""
        return len(self.model.output_shape) == 3

    def inputs_of(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`(n,)` strings to what `model` takes. Graph code."""
        return self.pack(self.tokenize(texts))

    def pack(
        self, ids: tf.RaggedTensor, length: int | None = None
    ) -> dict[str, tf.Tensor]:
        """Ragged token ids to the network's input.

        Args:
            ids: ragged `(n, None)` int32, of `tokenize`.
            length: columns of the result; the longest row's, where not given.

        Returns:
            What `model` takes of `token_ids`, `padding_mask` (1 for a token, 0
            behind the end) and `segment_ids`, each `(n, length)` int32.
        """
        found = self.padded(ids, length)
        return {name: found[name] for name in self.model.input}

    def padded(
        self, ids: tf.RaggedTensor, length: int | None = None
    ) -> dict[str, tf.Tensor]:
        """All that `pack` chooses from, whether `model` takes it or not. Graph code."""
        tokens = ids.to_tensor(self.pad_id, shape=(None, self.length or length))
        lengths = tf.minimum(ids.row_lengths(), tf.shape(tokens, tf.int64)[1])
        return {
            "token_ids": tokens,
            "padding_mask": tf.sequence_mask(lengths, tf.shape(tokens)[1], tf.int32),
            "segment_ids": tf.zeros_like(tokens),
        }


def blocks(model: keras.Model, block_end: str) -> list[list[layers.Layer]]:
    """The layers of an encoder's model in blocks, from pixels or tokens upwards.

    Args:
        model: a functional model, perhaps with functional models inside.
        block_end: pattern of the names of layers that end a block. What follows the
            last of them belongs to the last block.

    Returns:
        Every layer in exactly one block.
    """
    found: list[list[layers.Layer]] = [[]]
    ended = False
    for layer in _flat(model):
        if ended and layer.weights:
            found.append([])
            ended = False
        found[-1].append(layer)
        ended = ended or bool(re.fullmatch(block_end, layer.name))
    return found


def normalisations(model: keras.Model) -> list[layers.BatchNormalization]:
    """All batch normalisations of a model, however deep inside."""
    found = model._flatten_layers()
    return [layer for layer in found if isinstance(layer, layers.BatchNormalization)]


def _flat(model: keras.Model) -> Iterator[layers.Layer]:
    """Layers in the order of computation; Keras sorts those of a model by depth."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


@contextlib.contextmanager
def building(dtype: str, seed: int) -> Iterator[None]:
    """Inside, Keras layers compute in `dtype` and random weights come from `seed`.

    Weights stay float32; `"bfloat16"` is Keras' mixed policy.
    """
    before = keras.config.dtype_policy()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def weights_digest(model: keras.Model) -> str:
    """Names the values of all weights, wherever they came from: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        digest.update(weight.path.split("/")[-1].encode())
        digest.update(np.ascontiguousarray(weight.numpy()).data)
    return digest.hexdigest()
