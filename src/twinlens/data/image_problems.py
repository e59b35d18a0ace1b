"""Why a picture is refused before a single pixel of it takes memory.

Graph functions on a scalar string tensor, as in `image_headers`.
"""

import tensorflow as tf

from twinlens.data import image_headers as headers

_CONVERT = "Convert it to JPEG or PNG."
_DOWNLOAD = "The download went wrong: get the file again."
_FOREIGN = (  # what else ends up in picture folders: position, bytes, name, what to do
    (0, b"II*\0", "a TIFF picture", _CONVERT),
    (0, b"MM\0*", "a TIFF picture", _CONVERT),
    (4, b"ftypheic", "a HEIC picture", _CONVERT),
    (4, b"ftypheix", "a HEIC picture", _CONVERT),
    (4, b"ftypmif1", "a HEIF picture", _CONVERT),
    (4, b"ftypavif", "an AVIF picture", _CONVERT),
    (4, b"ftyp", "a video", "Take a frame of it, as JPEG or PNG."),
    (4, b"JXL ", "a JPEG XL picture", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (4, b"jP  ", "a JPEG 2000 picture", _CONVERT),
    (0, b"8BPS", "a Photoshop document", _CONVERT),
    (0, b"<svg", "an SVG drawing", _CONVERT),
    (0, b"%PDF", "a PDF document", _CONVERT),
    (0, b"<!DOCTYPE", "an HTML page", _DOWNLOAD),
    (0, b"<!doctype", "an HTML page", _DOWNLOAD),
    (0, b"<html", "an HTML page", _DOWNLOAD),
    (0, b"<?xml", "an XML document", _DOWNLOAD),
    (0, b"{", "a JSON document", _DOWNLOAD),
    (0, b"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull`."),
    (0, b"PK\x03\x04", "a ZIP archive", "Unpack it."),
    (0, b"\x1f\x8b", "a gzip file", "Unpack it."),
)
_HEXADECIMAL = [f"{byte:02x} " for byte in range(256)]


def problem(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Why the picture is refused before it is decoded, a scalar string; "" if not.

    Raises:
        tf.errors.InvalidArgumentError: the header is damaged.
    """
    kind = headers.kind_of(contents)
    return tf.cond(
        kind < len(headers.KINDS),
        lambda: _picture_problem(contents, kind, max_pixels),
        lambda: _foreign_problem(contents),
    )


def _picture_problem(
    contents: tf.Tensor, kind: tf.Tensor, max_pixels: int
) -> tf.Tensor:
    size = headers.dimensions(contents, kind)
    height, width = tf.strings.as_string(size[0]), tf.strings.as_string(size[1])
    named = tf.strings.join([width, " x ", height, " pixels"])
    too_large = tf.strings.join(
        [named, f" are more than {max_pixels:,}. Scale it down, or leave it out."]
    )
    empty = tf.strings.join([named, ": there is nothing to see. Leave it out."])
    reason = tf.where(tf.reduce_prod(size) > max_pixels, too_large, "")
    reason = tf.where(tf.reduce_min(size) < 1, empty, reason)
    rare = (kind == headers.BMP) & (reason == "")
    return tf.cond(rare, lambda: _bmp_problem(contents), lambda: reason)


def _bmp_problem(contents: tf.Tensor) -> tf.Tensor:
    bits = headers.bmp_bits(contents)
    packing = headers.numbers(contents, (30,), 4)[0]
    plain = packing % 3 == 0  # 0: none, 3: bit masks
    known = tf.reduce_any(bits == [8, 24, 32]) & plain
    return tf.where(
        known, "", "it is a BMP of a rare form (packed or compressed). " + _CONVERT
    )


def _foreign_problem(contents: tf.Tensor) -> tf.Tensor:
    head = headers.head_of(contents)
    matches = [tf.strings.substr(head, at, len(b)) == b for at, b, *_ in _FOREIGN]
    named = [f"it is {name}, which cannot be read. {do}" for *_, name, do in _FOREIGN]
    first_bytes = tf.io.decode_raw(tf.strings.substr(contents, 0, 8), tf.uint8)
    shown = tf.strings.reduce_join(
        tf.gather(_HEXADECIMAL, tf.cast(first_bytes, tf.int32))
    )
    unknown = tf.strings.join(
        [
            "it is not a picture: JPEG, PNG, GIF, BMP or WebP was expected, but it "
            "begins with the bytes ",
            tf.strings.strip(shown),
            ". Leave it out.",
        ]
    )
    reasons = tf.concat([named, [unknown]], axis=0)
    reason = reasons[tf.argmax(tf.stack([*matches, True]))]
    empty = tf.strings.length(contents) == 0
    return tf.where(empty, "the file is empty (0 bytes). " + _DOWNLOAD, reason)
