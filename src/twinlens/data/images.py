"""Bytes to pixels: the one path to an encoder's input.

The cache, training, search and the exported model all call `prepare`, so that none
of them sees other pixels than the rest. Everything but `load` is made of graph
operations: it runs in `tf.data`, eagerly, and inside a SavedModel.

What comes out is what a browser shows: turned as Exif says (JPEG), transparency over
white, the first frame of what moves. The JPEG settings give Pillow's pixels to the
last bit; they cost 0.1 ms a picture of 224 pixels more than TensorFlow's own.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from twinlens.data import decoders, image_problems
from twinlens.data import image_headers as headers
from twinlens.data.segmentation import Segment
from twinlens.errors import BrokenImageError

PREPROCESSING_VERSION = 1  # part of every cache key; raise it when pixels change
MAX_PIXELS = 50_000_000  # a picture above is refused unread: 150 MB decoded
ENOUGH = 2  # times the wanted size: a JPEG may be decoded that much smaller
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG

Resize = Literal["stretch", "pad"]


@tf.autograph.experimental.do_not_convert  # tracing takes half the time without
def decode(
    contents: tf.Tensor, enough: int = 0, segment: Segment | None = None
) -> tf.Tensor:
    """Picture from its file's bytes.

    Args:
        contents: scalar string tensor: JPEG, PNG, GIF, BMP or WebP.
        enough: pixels. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both
            sides still have as many, which is several times as fast; 0: never.
        segment: cuts the product out of its background.

    Returns:
        `(height, width, 3)` uint8, red, green, blue.

    Raises:
        tf.errors.InvalidArgumentError: it cannot be decoded, or has more than
            `MAX_PIXELS` pixels; these are counted in the header.
    """
    reason = image_problems.problem(contents, MAX_PIXELS)
    with tf.control_dependencies([tf.debugging.Assert(reason == "", [reason])]):
        contents = tf.identity(contents)  # nothing below starts before the check
    branches = [
        lambda: decoders.decode_jpeg(contents, enough),
        lambda: decoders.decode_png(contents),
        lambda: decoders.decode_gif(contents),
        lambda: decoders.decode_bmp(contents),
        lambda: decoders.decode_webp(contents),
    ]
    image = tf.switch_case(headers.kind_of(contents), branches)
    image = tf.ensure_shape(image, (None, None, 3))
    return image if segment is None else segment(image)


def fit(image: tf.Tensor, size: int, resize: Resize = "stretch") -> tf.Tensor:
    """The picture as a square.

    Bilinear; with antialiasing where it shrinks, as Pillow does. Where it grows
    antialiasing changes nothing and would take 2.5 times as long.

    Args:
        image: `(height, width, 3)` of any number type, 0…255.
        size: pixels a side.
        resize: `"stretch"`, or `"pad"` to keep the aspect with a black border.

    Returns:
        `(size, size, 3)` float32 in 0…255.
    """
    if resize == "stretch":
        resized = _resize(image, tf.constant([size, size]))
    elif resize == "pad":
        sides = tf.shape(image)[:2]
        scale = size / tf.reduce_max(sides)
        inner = tf.cast(tf.round(tf.cast(sides, tf.float64) * scale), tf.int32)
        inner = tf.maximum(inner, 1)  # a very oblong picture stays a line
        before = (size - inner) // 2
        borders = tf.stack([before, size - inner - before], axis=1)
        resized = tf.pad(_resize(image, inner), tf.pad(borders, [[0, 1], [0, 0]]))
    else:
        raise ValueError(f"resize is {resize!r}; use 'stretch' or 'pad'.")
    return tf.ensure_shape(resized, (size, size, 3))


def prepare(
    contents: tf.Tensor,
    size: int,
    resize: Resize = "stretch",
    segment: Segment | None = None,
) -> tf.Tensor:
    """Scalar string of bytes to `(size, size, 3)` float32 in 0…255: decode and fit.

    It is traced once for each size, which takes most of a second.
    """
    return _prepare_function(size, resize, segment)(contents)


def load(
    source: str | Path | bytes,
    size: int,
    resize: Resize = "stretch",
    segment: Segment | None = None,
) -> np.ndarray:
    """`(size, size, 3)` float32 in 0…255 from a file; safe to call from threads.

    Args:
        source: the file, or its bytes.
        size: pixels a side.
        resize: see `fit`.
        segment: what cuts the picture out before, where anything does.

    Raises:
        BrokenImageError: the file cannot be read or decoded. The message names it,
            the reason and what to do.
    """
    contents, path = source, "the picture"
    if not isinstance(source, bytes):
        contents, path = _read(source), source
    try:
        return prepare(tf.constant(contents), size, resize, segment).numpy()
    except tf.errors.OpError as error:
        if segment is not None:
            load(source, size, resize)  # raises if it is the picture's fault
            raise
        raise BrokenImageError(f"{path}: {_reason(error, contents)}") from error


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BrokenImageError(
            f"{path}: the file cannot be read ({error.strerror}). Check the path."
        ) from error


def augment(
    image: tf.Tensor,
    seed: tf.Tensor,
    area_range: tuple[float, float] = (0.5, 1.0),
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
) -> tf.Tensor:
    """A changed picture that shows the same: cropped, mirrored, in another light.

    The same seed gives the same change, on every machine.

    Args:
        image: `(height, width, 3)`, 0…255.
        seed: `(2,)` int32.
        area_range: share of the picture that is kept; `(1, 1)` with `aspect_range`
            `(1, 1)` keeps it whole.
        aspect_range: width / height of the part relative to the picture's.
        flip: mirrors every other picture. Off where captions say left and right.
        brightness: largest relative change; 0: none.
        contrast: the same, around the picture's mean.
        saturation: the same, around each pixel's grey.

    Returns:
        `(height', width', 3)` float32 in 0…255, the size of the part kept.
    """
    draws = tf.random.stateless_uniform((8,), seed, alg="philox")
    image = _crop(image, draws[:4], area_range, aspect_range)
    image = tf.cast(image, tf.float32)
    if flip:
        image = tf.cond(draws[4] < 0.5, lambda: image[:, ::-1], lambda: image)
    image *= _around_one(draws[5], brightness)
    mean = tf.reduce_mean(image)
    image = mean + (image - mean) * _around_one(draws[6], contrast)
    grey = tf.reduce_sum(image * _LUMINANCE, axis=-1, keepdims=True)
    image = grey + (image - grey) * _around_one(draws[7], saturation)
    return tf.clip_by_value(image, 0.0, 255.0)


@cache
def _prepare_function(size: int, resize: Resize, segment: Segment | None) -> Callable:
    return tf.function(
        lambda contents: fit(decode(contents, ENOUGH * size, segment), size, resize),
        input_signature=[tf.TensorSpec((), tf.string)],
    )


def _reason(error: tf.errors.OpError, contents: bytes) -> str:
    told = re.search(r"assertion failed: \[(.*?)\]", error.message, re.DOTALL)
    if told:
        return told[1]
    kind = headers.KINDS[int(headers.kind_of(tf.constant(contents)))]
    return (
        f"the {kind} data are damaged or cut short ({len(contents):,} bytes). "
        "Get the file again, or leave it out."
    )


def _resize(image: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    shrinks = tf.reduce_any(tf.shape(image)[:2] > sides)
    resized = tf.cond(
        shrinks,
        lambda: tf.image.resize(image, sides, antialias=True),
        lambda: tf.image.resize(image, sides),
    )
    return tf.cast(resized, tf.float32)


def _crop(
    image: tf.Tensor,
    draws: tf.Tensor,
    area_range: tuple[float, float],
    aspect_range: tuple[float, float],
) -> tf.Tensor:
    """A part of random area, aspect and place; what does not fit in is cut."""
    area = area_range[0] + draws[0] * (area_range[1] - area_range[0])
    low, high = np.log(aspect_range).astype(np.float32)
    aspect = tf.exp(low + draws[1] * (high - low))
    share = tf.sqrt(area * tf.stack([1 / aspect, aspect]))
    sides = tf.shape(image)[:2]
    wanted = tf.cast(tf.round(tf.cast(sides, tf.float32) * share), tf.int32)
    part = tf.clip_by_value(wanted, 1, sides)
    room = tf.cast(sides - part + 1, tf.float32)
    start = tf.minimum(tf.cast(draws[2:4] * room, tf.int32), sides - part)
    return tf.slice(
        image, tf.pad(start, [[0, 1]]), tf.pad(part, [[0, 1]], constant_values=3)
    )


def _around_one(draw: tf.Tensor, reach: float) -> tf.Tensor:
    return 1.0 + (2.0 * draw - 1.0) * reach
