"""A product cut out of its background, without any network: OpenCV's GrabCut.

What is cut away becomes white: catalogues photograph on white, and `images.decode`
lays transparency over white, so a picture with its background cut away looks like
one that never had any.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from twinlens.errors import InputError

VERSION = 1  # part of the cache key; raise it when what is cut out changes
WHITE = 255  # of all three colours


class Segment(Protocol):
    """Cuts the product out of a picture; hashable, so that traces can be shared.

    Attributes:
        description: what identifies the result, for the cache key.
    """

    description: dict[str, Any]

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """`(height, width, 3)` uint8 to the same, white where no product is.

        Graph code. Where nothing is found the picture stays as it is.
        """


@dataclass(frozen=True)
class GrabCut:
    """The product as what differs from the picture's border, by OpenCV's GrabCut.

    Two mixtures of colours, of the border and of the rest, decide pixel by pixel,
    with neighbours kept together. It suits pictures with a quiet background whose
    border belongs to it; in cluttered ones it keeps what stands out most.

    Args:
        margin: of the longer side, how wide the border is that is background.
        iterations: of mixtures and cut; further ones change little.
        side: pixels, longest, at which it works. 50 ms a picture; at 224 pixels and
            five iterations 150 ms, with 95 % of the same pixels.
        least_share: of the picture; if less is left, nothing was found.
        least_side: pixels, shortest, when reduced; smaller ones stay as they are.

    Raises:
        InputError: OpenCV is missing.

    Reference:
        Rother, Kolmogorov and Blake 2004, https://doi.org/10.1145/1015706.1015720.

    Example:
        ```python
        pixels = GrabCut().cut(np.asarray(Image.open("dress.jpg").convert("RGB")))
        ```
    """

    margin: float = 0.02
    iterations: int = 2
    side: int = 160
    least_share: float = 0.01
    least_side: int = 16

    def __post_init__(self) -> None:
        _opencv()

    @cached_property
    def description(self) -> dict[str, Any]:
        """What identifies the result: settings, and whose algorithm it is."""
        major = int(_opencv().__version__.split(".")[0])
        return {"name": "grabcut", "version": VERSION, "opencv": major} | asdict(self)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """As `Segment`."""
        cut = tf.numpy_function(self.cut, [image], tf.uint8, stateful=False)
        return tf.ensure_shape(cut, (None, None, 3))

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """`(height, width, 3)` uint8 to the same; safe to call from threads."""
        mask = self.mask(picture)
        if mask.mean() < self.least_share:
            return picture
        return np.where(mask[..., None], picture, np.uint8(WHITE))

    def mask(self, picture: np.ndarray) -> np.ndarray:
        """Where the product is, the same at every call.

        Args:
            picture: `(height, width, 3)` uint8.

        Returns:
            `(height, width)` bool; false everywhere in a picture that is too small.
        """
        opencv = _opencv()
        height, width = picture.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        small_width, small_height = round(width * scale), round(height * scale)
        if min(small_width, small_height) < self.least_side:
            return np.zeros((height, width), bool)
        small = opencv.resize(
            picture, (small_width, small_height), interpolation=opencv.INTER_AREA
        )
        border = max(1, round(self.margin * max(small_width, small_height)))
        inside = (border, border, small_width - 2 * border, small_height - 2 * border)
        labels = np.zeros((small_height, small_width), np.uint8)
        opencv.setRNGSeed(0)  # of this thread alone; the mixtures start at random
        opencv.grabCut(
            small,
            labels,
            inside,
            *np.zeros((2, 1, 65)),  # room for both mixtures
            self.iterations,
            opencv.GC_INIT_WITH_RECT,
        )
        product = np.uint8(255) * (labels & 1)  # certainly or probably foreground
        return opencv.resize(product, (width, height)) > 127


def _opencv():
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            "image_encoder.segment is 'grabcut', for which OpenCV is missing or "
            f'broken ({error}). Give `pip install "twinlens[segment]"`.'
        ) from None
    return cv2
