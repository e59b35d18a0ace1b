"""From a grid or a row of tokens to one vector."""

import keras
import numpy as np
from keras import layers, ops

from twinlens.errors import InputError

GEM_POWER = 3.0  # Radenovic et al. 2018 learn values near 3
GEM_FLOOR = 1e-6  # keeps the root's gradient finite
FAR_BELOW = -1e9  # any state of a token


@keras.saving.register_keras_serializable(package="twinlens")
class SpatialPooling(layers.Layer):
    """Pools over places, in float32.

    Args:
        mode: `"avg"`, `"max"`, `"gem"`: the cubic generalised mean, `"cls"`: the
            first token, or `"tokens"`: every place by itself.
        prefix_tokens: how many tokens stand before those of places (vision
            transformers); `"cls"` needs one.

    Call arguments:
        grid: `(n, height, width, channels)`, or `(n, tokens, channels)`.

    Returns:
        `(n, channels)` float32; with `"tokens"` `(n, places, channels)`.

    Raises:
        InputError: `"cls"` of a grid that has no such token.

    Reference:
        Radenovic et al. 2018, https://arxiv.org/abs/1711.02512, equation 3.
    """

    def __init__(self, mode: str = "avg", prefix_tokens: int = 0, **kwargs) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        if mode == "cls" and not prefix_tokens:
            raise InputError(
                "image_encoder.pooling is 'cls', but this network has no class token. "
                "Take avg, max or gem."
            )
        self.mode, self.prefix_tokens = mode, prefix_tokens

    def call(self, grid):
        """A grid `(n, height, width, channels)`, or tokens, to `(n, channels)`."""
        if self.mode == "cls":
            return grid[:, 0]
        places = grid[:, self.prefix_tokens :] if self.prefix_tokens else grid
        if self.mode == "tokens":
            places_in_a_row = int(np.prod(places.shape[1:-1]))
            return ops.reshape(places, (-1, places_in_a_row, places.shape[-1]))
        axes = tuple(range(1, len(grid.shape) - 1))
        if self.mode == "max":
            return ops.max(places, axis=axes)
        if self.mode == "gem":
            powered = ops.maximum(places, GEM_FLOOR) ** GEM_POWER
            return ops.mean(powered, axis=axes) ** (1 / GEM_POWER)
        return ops.mean(places, axis=axes)

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        config = {"mode": self.mode, "prefix_tokens": self.prefix_tokens}
        return super().get_config() | config


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


@keras.saving.register_keras_serializable(package="twinlens")
class MaskedTokens(MaskedMean):
    """The tokens themselves, and zeros behind the end, in float32.

    Call arguments:
        tokens: `(n, length, dim)`.
        mask: `(n, length)`, 1 for a token and 0 for padding.

    Returns:
        `(n, length, dim)` float32.
    """

    def call(self, tokens, mask):
        """`(n, length, dim)` and `(n, length)` to `(n, length, dim)`."""
        return tokens * ops.cast(mask, "float32")[:, :, None]


@keras.saving.register_keras_serializable(package="twinlens")
class MaskedMax(MaskedMean):
    """Largest of each number over the tokens that are not padding, in float32.

    Call arguments:
        tokens: `(n, length, dim)`.
        mask: `(n, length)`, 1 for a token and 0 for padding.

    Returns:
        `(n, dim)` float32.
    """

    def call(self, tokens, mask):
        """`(n, length, dim)` and `(n, length)` to `(n, dim)`."""
        hidden = (1 - ops.cast(mask, "float32"))[:, :, None] * FAR_BELOW
        return ops.max(tokens + hidden, axis=1)


@keras.saving.register_keras_serializable(package="twinlens")
class LastToken(layers.Layer):
    """The last token that is not padding: where CLIP's texts end.

    Call arguments:
        tokens: `(n, length, dim)`.
        mask: `(n, length)`, 1 for a token and 0 for padding behind them.

    Returns:
        `(n, dim)`.
    """

    def call(self, tokens, mask):
        """`(n, length, dim)` and `(n, length)` to `(n, dim)`."""
        last = ops.sum(ops.cast(mask, "int32"), axis=1) - 1
        return ops.take_along_axis(tokens, last[:, None, None], axis=1)[:, 0]

    def compute_mask(self, *_, **__) -> None:
        """The tokens are gone, and so is their mask."""
        return None


@keras.saving.register_keras_serializable(package="twinlens")
class ColourShift(layers.Layer):
    """RGB to BGR less the mean colour: how the Caffe networks were trained.

    Call arguments:
        pixels: `(n, height, width, 3)` from 0 to 255.

    Returns:
        `(n, height, width, 3)`.

    Reference:
        Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, section 2.1.
    """

    MEAN = (103.939, 116.779, 123.68)  # of ImageNet's training pictures, BGR

    def call(self, pixels):
        """`(n, height, width, 3)` to the same shape."""
        return ops.flip(pixels, axis=-1) - ops.convert_to_tensor(self.MEAN)
