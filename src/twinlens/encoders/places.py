"""The places that a feature of tokens has: how many, where, and fewer of them."""

import math
from collections.abc import Iterable

import keras
import numpy as np
from keras import layers, ops

from twinlens.encoders.network import PictureNetwork
from twinlens.errors import InputError


@keras.saving.register_keras_serializable(package="twinlens")
class GridPooling(layers.Layer):
    """Means over a grid of cells that may overlap by a place, in float32.

    Of `height` rows, cell `i` of `size` covers those from `floor(i * height / size)`
    to before `ceil((i + 1) * height / size)`, and columns likewise: PyTorch's
    `adaptive_avg_pool2d`.

    Args:
        size: cells a side.
        prefix_tokens: how many tokens stand before those of places (vision
            transformers).

    Call arguments:
        grid: `(n, height, width, channels)`, or `(n, tokens, channels)` whose places
            are a square.

    Returns:
        `(n, size * size, channels)` float32, row by row.

    Raises:
        InputError: no places, or fewer a side than cells.
    """

    def __init__(self, size: int, prefix_tokens: int = 0, **kwargs) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.size, self.prefix_tokens = size, prefix_tokens

    def build(self, input_shape: tuple) -> None:
        """Makes the means along the map's two sides, which are no weights."""
        places = places_of(input_shape, self.prefix_tokens)
        if places is None:
            raise InputError(
                f"image_encoder.grid is {self.size}, but the layer gives "
                f"{tuple(input_shape[1:])}: no map of a known height and width, and no "
                f"square of tokens behind {self.prefix_tokens} in front. Leave the "
                "grid at 0, or tap another layer."
            )
        if not 1 <= self.size <= min(places):
            raise InputError(
                f"image_encoder.grid is {self.size}, but the map has {places[0]}x"
                f"{places[1]} places. Take 1 to {min(places)}, 0 for every place by "
                "itself, another layer, or a larger image_encoder.image_size."
            )
        self.map_size = places
        self.down, self.across = (_means(length, self.size) for length in places)

    def call(self, grid):
        """A map `(n, height, width, channels)`, or tokens, to `(n, cells, channels)`.

        One side after the other as plain products: `einsum` transposes the map first,
        which takes four times as long.
        """
        places = grid[:, self.prefix_tokens :] if self.prefix_tokens else grid
        (height, width), dim = self.map_size, grid.shape[-1]
        rows = ops.reshape(places, (-1, height, width * dim))
        rows = ops.matmul(self.down, rows)
        cells = ops.reshape(rows, (-1, self.size, width, dim))
        cells = ops.matmul(self.across, cells)
        return ops.reshape(cells, (-1, self.size * self.size, dim))

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        config = {"size": self.size, "prefix_tokens": self.prefix_tokens}
        return super().get_config() | config


def _means(length: int, count: int) -> np.ndarray:
    """`(count, length)` float32: row `i` averages what cell `i` of a side covers."""
    cells, places = np.arange(count)[:, None], np.arange(length)
    first = cells * length // count
    end = -(-(cells + 1) * length // count)  # rounded up
    covered = (first <= places) & (places < end)
    return (covered / covered.sum(axis=1, keepdims=True)).astype("float32")


def places_of(shape: tuple, prefix_tokens: int = 0) -> tuple[int, int] | None:
    """Rows and columns of a map, or of a square of tokens; `None` where unknown.

    Args:
        shape: `(n, height, width, channels)` or `(n, tokens, channels)`.
        prefix_tokens: how many tokens stand before those of places.
    """
    inner = tuple(shape[1:-1])
    if not inner or None in inner:
        return None
    if len(inner) == 2:
        return inner
    count = inner[0] - prefix_tokens
    side = math.isqrt(max(count, 0))
    return (side, side) if side and side * side == count else None


def places_shared(networks: Iterable[PictureNetwork]) -> tuple[int, int] | None:
    """Rows and columns that all taps of all networks have; `None` where unknown."""
    found = {
        places_of(output.shape, network.prefix_tokens)
        for network in networks
        for output in network.model.outputs
    }
    return found.pop() if len(found) == 1 else None


def check_joined(features: Iterable) -> None:
    """Tokens can be joined only where they stand for the same places.

    Raises:
        InputError: they differ in number.
    """
    shapes = {tuple(feature.shape[1:-1]) for feature in features}
    if len(shapes) > 1:
        counts = ", ".join(str(shape[0]) for shape in sorted(shapes))
        raise InputError(
            f"image_encoder.pooling is 'tokens', but the layers have {counts} places, "
            "which cannot be joined. Set image_encoder.grid to as many a side as the "
            "smallest has, or take one layer, or layers of one size."
        )
