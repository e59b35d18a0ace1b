"""What an encoder is, and what all of them need: pooling, precision, identity."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

GEM_POWER = 3.0  # Radenovic et al. 2018 learn values near 3
GEM_FLOOR = 1e-6  # keeps the root's gradient finite


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
    """

    model: keras.Model
    image_size: int
    resize: str
    description: dict[str, Any]
    block_end: str
    dtype: str = "float32"

    @property
    def feature_dim(self) -> int:
        """Numbers a picture."""
        return self.model.output_shape[-1]


@dataclass(frozen=True)
class TextEncoder:
    """Texts to features.

    Attributes:
        model: Keras model: dict of `token_ids`, `padding_mask` and `segment_ids`,
            each `(n, length)` int32 → `(n, feature_dim)` float32.
        tokenize: `(n,)` string tensor → ragged `(n, None)` int32 token ids with the
            start and end tokens, cut to the sequence length. Graph code.
        description: what identifies the features: settings, tokens, weights.
        block_end: pattern of the names of layers that end a block.
    """

    model: keras.Model
    tokenize: Callable
    description: dict[str, Any]
    block_end: str

    @property
    def feature_dim(self) -> int:
        """Numbers a text."""
        return self.model.output_shape[-1]


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


@keras.saving.register_keras_serializable(package="twinlens")
class SpatialPooling(layers.Layer):
    """Pools over places, in float32.

    Args:
        mode: `"avg"`, `"max"`, or `"gem"`: the cubic generalised mean.

    Call arguments:
        grid: `(n, height, width, channels)`.

    Returns:
        `(n, channels)` float32.

    Reference:
        Radenovic et al. 2018, https://arxiv.org/abs/1711.02512, equation 3.
    """

    def __init__(self, mode: str = "avg", **kwargs) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.mode = mode

    def call(self, grid):
        """`(n, height, width, channels)` to `(n, channels)`."""
        if self.mode == "max":
            return ops.max(grid, axis=(1, 2))
        if self.mode == "gem":
            powered = ops.maximum(grid, GEM_FLOOR) ** GEM_POWER
            return ops.mean(powered, axis=(1, 2)) ** (1 / GEM_POWER)
        return ops.mean(grid, axis=(1, 2))

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | {"mode": self.mode}


@keras.saving.register_keras_serializable(package="twinlens")
class MaskedMean(layers.Layer):
    """Mean over the tokens that are not padding, in float32.

    Call arguments:
        tokens: `(n, length, dim)`.
        mask: `(n, length)`, 1 for a token and 0 for padding.

    Returns:
        `(n, dim)` float32.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)

    def call(self, tokens, mask):
        """`(n, length, dim)` and `(n, length)` to `(n, dim)`."""
        weights = ops.cast(mask, "float32")[:, :, None]
        return ops.sum(tokens * weights, axis=1) / ops.sum(weights, axis=1)

    def compute_mask(self, *_, **__) -> None:
        """The tokens are gone, and so is their mask."""
        return None


def weights_digest(model: keras.Model) -> str:
    """Names the values of all weights, wherever they came from: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        digest.update(weight.path.split("/")[-1].encode())
        digest.update(np.ascontiguousarray(weight.numpy()).data)
    return digest.hexdigest()
