"""Bytes of each kind of picture to `(height, width, 3)` uint8; graph code."""

from collections.abc import Callable

import tensorflow as tf

from twinlens.data import image_headers as headers


def decode_jpeg(contents: tf.Tensor, enough: int) -> tf.Tensor:
    """Turned as Exif says; smaller where both sides keep `enough` pixels."""
    def at(ratio: int) -> Callable[[], tf.Tensor]:
        return lambda: tf.io.decode_jpeg(
            contents, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
        )

    if enough:
        side = tf.reduce_min(tf.io.extract_jpeg_shape(contents)[:2])
        halvings = tf.reduce_sum(tf.cast(side // [2, 4, 8] >= enough, tf.int32))
        image = tf.switch_case(halvings, [at(1), at(2), at(4), at(8)])
    else:
        image = at(1)()
    orientation = headers.orientation(contents)
    return tf.cond(orientation > 1, lambda: _turn(image, orientation), lambda: image)


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Upright picture: each of the eight ways is a transposition and two flips."""
    image = tf.cond(
        orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image
    )
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    return tf.cond(upside_down, lambda: image[::-1], lambda: image)


def decode_png(contents: tf.Tensor) -> tf.Tensor:
    """Asks for transparency only where it is: else TensorFlow may invent some."""
    return tf.cond(
        headers.png_has_alpha(contents),
        lambda: _on_white(tf.io.decode_png(contents, channels=4)),
        lambda: tf.io.decode_png(contents, channels=3),
    )


def decode_gif(contents: tf.Tensor) -> tf.Tensor:
    """The first frame."""
    return tf.io.decode_gif(headers.gif_still(contents))[0]


def decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    """Without the fourth channel, which is filling in most files, not transparency."""
    pixels = tf.io.decode_bmp(contents)

    def coloured() -> tf.Tensor:
        palette = headers.bmp_palette(contents)
        return tf.gather(palette, tf.cast(pixels[..., 0], tf.int32))

    is_palette = headers.bmp_bits(contents) == 8
    return tf.cond(is_palette, coloured, lambda: pixels[..., :3])


def decode_webp(contents: tf.Tensor) -> tf.Tensor:
    """The first frame, over white."""
    frame = tf.image.decode_webp(headers.webp_still(contents))[0]
    has_alpha = tf.shape(frame)[-1] == 4
    return tf.cond(has_alpha, lambda: _on_white(frame), lambda: frame[..., :3])


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """`(height, width, 4)` uint8 with transparency to `(height, width, 3)`."""
    colour, alpha = image[..., :3], image[..., 3:]

    def blended() -> tf.Tensor:
        share = tf.cast(alpha, tf.float32) / 255.0
        white = tf.cast(colour, tf.float32) * share + 255.0 * (1.0 - share)
        return tf.cast(tf.round(white), tf.uint8)

    return tf.cond(tf.reduce_min(alpha) < 255, blended, lambda: colour)
