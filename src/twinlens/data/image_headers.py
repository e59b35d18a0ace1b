"""What the first bytes of a picture say: kind, size, orientation, transparency.

Graph functions on a scalar string tensor: they run in `tf.data`, eagerly, and inside
an exported SavedModel. A header that is damaged or too short raises
`tf.errors.InvalidArgumentError`.
"""

import tensorflow as tf

KINDS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
JPEG, PNG, GIF, BMP, WEBP = range(5)
_SIGNATURES = (  # of each kind: position and bytes
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"GIF8"),
    (0, b"BM"),
    (8, b"WEBP"),
)
_HEAD_BYTES = 64  # holds every fixed header below
_EXIF_BYTES = 65536  # Exif comes first in a JPEG, in a segment of at most 64 KiB
_BYTES = [bytes([byte]) for byte in range(256)]
_ORIENTATION_TAG = 0x0112


def kind_of(contents: tf.Tensor) -> tf.Tensor:
    """Scalar int32 index into `KINDS`; `len(KINDS)` where it is none of them."""
    head = head_of(contents)
    matches = [tf.strings.substr(head, at, len(b)) == b for at, b in _SIGNATURES]
    return tf.argmax(tf.stack([*matches, True]), output_type=tf.int32)


def head_of(contents: tf.Tensor) -> tf.Tensor:
    """The first bytes, filled up with zeros so that every position exists."""
    return tf.strings.substr(contents, 0, _HEAD_BYTES) + b"\0" * _HEAD_BYTES


def numbers(
    contents: tf.Tensor,
    positions: tuple[int, ...],
    num_bytes: int,
    order: str = "little",
) -> tf.Tensor:
    """`(len(positions),)` int64: unsigned numbers of the head."""
    data = tf.cast(tf.io.decode_raw(head_of(contents), tf.uint8), tf.int64)
    places = range(num_bytes) if order == "little" else range(num_bytes)[::-1]
    weights = tf.constant([256**place for place in places], tf.int64)
    rows = [data[at : at + num_bytes] for at in positions]
    return tf.reduce_sum(tf.stack(rows) * weights, axis=1)


def dimensions(contents: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """`(2,)` int64 height and width in pixels, from the header alone."""
    size = tf.switch_case(
        kind,
        [
            lambda: tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64),
            lambda: numbers(contents, (20, 16), 4, "big"),
            lambda: _gif_dimensions(contents),
            lambda: _bmp_dimensions(contents),
            lambda: _webp_dimensions(contents),
        ],
    )
    return tf.minimum(size, 2**31)  # so that a product of two cannot overflow


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """Exif orientation of a JPEG, scalar int32 in 1…8; 1 where there is none."""
    start = tf.strings.substr(contents, 0, _EXIF_BYTES)
    parts = tf.strings.split(start, b"Exif\0\0", maxsplit=1)
    return tf.cond(
        tf.size(parts) == 2,
        lambda: _exif_orientation(parts[0], parts[1]),
        lambda: tf.constant(1),
    )


def png_has_alpha(contents: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has transparency of any form, scalar bool."""
    before_pixels = tf.strings.split(contents, "IDAT", maxsplit=1)[0]
    one_clear_colour = tf.size(tf.strings.split(before_pixels, "tRNS")) > 1
    alpha_channel = numbers(contents, (25,), 1)[0] & 4 > 0  # bit of the colour type
    return one_clear_colour | alpha_channel


def webp_still(contents: tf.Tensor) -> tf.Tensor:
    """The WebP if it stands still, else its first frame as a file of its own.

    TensorFlow 2.21 must not see the ones that move: without transparency their
    frames are written beyond the end of its buffer, which ends the process.
    """
    extended = tf.strings.substr(head_of(contents), 12, 4) == "VP8X"
    moves = extended & (numbers(contents, (20,), 1)[0] & 2 > 0)
    return tf.cond(moves, lambda: _first_webp_frame(contents), lambda: contents)


def gif_still(contents: tf.Tensor) -> tf.Tensor:
    """The first frame of a GIF as a file of its own, its transparent colour white.

    TensorFlow would decode every frame of it, and shows what is clear as black.
    """
    data = tf.io.decode_raw(contents, tf.uint8)
    frame, control = _first_gif_frame(data)
    flags = tf.cast(data[control + 3], tf.int32)
    local_size = _gif_table_bytes(data[frame + 9])
    table = tf.where(local_size > 0, frame + 10, 13)
    entry = table + 3 * tf.cast(data[control + 6], tf.int32)
    end = _after_blocks(data, frame + 11 + local_size)  # behind the least code size
    still = tf.strings.substr(contents, 0, end) + b";"

    def whitened() -> tf.Tensor:
        white = _replace(still, entry, tf.constant(b"\xff\xff\xff"))
        return _replace(white, control + 3, tf.gather(_BYTES, flags & 0xFE))

    return tf.cond((control > 0) & (flags & 1 == 1), whitened, lambda: still)


def bmp_bits(contents: tf.Tensor) -> tf.Tensor:
    """Bits a pixel of a BMP, scalar int64."""
    return numbers(contents, (28,), 2)[0]


def bmp_palette(contents: tf.Tensor) -> tf.Tensor:
    """`(256, 3)` uint8 colours of a BMP of 8 bits a pixel; unused ones are black."""
    start = 14 + numbers(contents, (14,), 4)[0]
    pixels_start = numbers(contents, (10,), 4)[0]
    table = _part(contents, start, tf.minimum(pixels_start - start, 1024) // 4 * 4)
    colours = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, 4))
    colours = colours[:, 2::-1]  # stored as blue, green, red, 0
    return tf.pad(colours, [[0, 256 - tf.shape(colours)[0]], [0, 0]])


def _bmp_dimensions(contents: tf.Tensor) -> tf.Tensor:
    size = numbers(contents, (22, 18), 4)
    return tf.where(size >= 2**31, 2**32 - size, size)  # a negative height: top first


def _webp_dimensions(contents: tf.Tensor) -> tf.Tensor:
    """Of the three forms of WebP: lossy, lossless, extended."""
    form = tf.strings.substr(head_of(contents), 12, 4)
    lossy = numbers(contents, (28, 26), 2) & 0x3FFF
    packed = numbers(contents, (21,), 4)
    lossless = tf.concat([packed // 2**14 & 0x3FFF, packed & 0x3FFF], axis=0) + 1
    extended = numbers(contents, (27, 24), 3) + 1
    return tf.where(form == "VP8X", extended, tf.where(form == "VP8L", lossless, lossy))


def _gif_dimensions(contents: tf.Tensor) -> tf.Tensor:
    data = tf.io.decode_raw(contents, tf.uint8)
    frame, _ = _first_gif_frame(data)
    width, height = data[frame + 5 : frame + 7], data[frame + 7 : frame + 9]
    both = tf.cast(tf.stack([height, width]), tf.int64)
    return tf.reduce_sum(both * tf.constant([1, 256], tf.int64), axis=1)


def _first_gif_frame(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Positions of the first image descriptor, and of its graphic control or 0.

    A file without a frame runs out of bytes, which raises `InvalidArgumentError`.
    """

    def step(position, control, inside):
        byte = tf.cast(data[position], tf.int32)
        is_control = ~inside & (data[position + 1] == 0xF9)
        control = tf.where(is_control, position, control)
        position += tf.where(inside, 1 + byte, 2)  # over a block, or "!" and its label
        return position, control, ~inside | (byte > 0)

    frame, control, _ = tf.while_loop(
        lambda position, control, inside: inside | (data[position] != 0x2C),
        step,
        (13 + _gif_table_bytes(data[10]), tf.constant(0), tf.constant(False)),
    )
    return frame, control


def _gif_table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Size of a colour table from the flags before it; 0 where there is none."""
    size = tf.gather(
        [3 * 2**bits for bits in range(1, 9)], tf.cast(flags & 7, tf.int32)
    )
    return tf.where(flags >= 0x80, size, 0)


def _after_blocks(data: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Position behind a chain of blocks: each tells its length, the last one's is 0."""
    (last,) = tf.while_loop(
        lambda position: data[position] > 0,
        lambda position: (position + 1 + tf.cast(data[position], tf.int32),),
        (position,),
    )
    return last + 1


def _first_webp_frame(contents: tf.Tensor) -> tf.Tensor:
    """A header that allows for transparency, and the data of the first frame.

    An `ANMF` chunk is its length, 16 bytes that begin with two places and the size,
    24 bits each, and the data; https://developers.google.com/speed/webp/docs
    """
    chunk = tf.strings.split(contents, "ANMF", maxsplit=1)[1]
    data = _part(chunk, 20, numbers(chunk, (0,), 4)[0] - 16)
    places = [1, 256, 256**2, 256**3]
    length = (22 + tf.strings.length(data)) // places & 0xFF
    size = _part(chunk, 10, 6)
    riff = tf.strings.reduce_join(tf.gather(_BYTES, length))
    header = b"WEBPVP8X\x0a\0\0\0\x10\0\0\0"
    return tf.strings.join([b"RIFF", riff, header, size, data])


def _part(contents: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Bytes from `start`, as many as there are; `substr` would quote the whole file."""
    start, length = tf.cast(start, tf.int64), tf.cast(length, tf.int64)
    start = tf.minimum(start, tf.cast(tf.strings.length(contents), tf.int64))
    return tf.strings.substr(contents, start, tf.maximum(length, 0))


def _replace(contents: tf.Tensor, position: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    after = position + tf.strings.length(new)
    rest = _part(contents, after, tf.strings.length(contents))
    return tf.strings.join([tf.strings.substr(contents, 0, position), new, rest])


def _exif_orientation(before: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Reads the tag from IFD0: a count, then entries of 12 bytes, in either order."""
    in_segment = tf.strings.substr(b"\0\0\0\0" + before, -4, 2) == b"\xff\xe1"
    data = tf.cast(tf.io.decode_raw(exif + b"\0" * 14, tf.uint8), tf.int32)
    little = data[0] == ord("I")

    def number(values: tf.Tensor) -> tf.Tensor:  # (..., 2) bytes to (...)
        first, second = values[..., 0], values[..., 1]
        return tf.where(little, first + 256 * second, 256 * first + second)

    low = number(tf.where(little, data[4:6], data[6:8]))  # far beyond 64 KiB: damaged
    start = tf.minimum(low, tf.size(data) - 14)
    count = tf.minimum(
        number(data[start : start + 2]), (tf.size(data) - start - 2) // 12
    )
    entries = tf.reshape(data[start + 2 : start + 2 + 12 * count], (-1, 12))
    found = number(entries[:, :2]) == _ORIENTATION_TAG
    value = tf.reduce_max(tf.where(found, number(entries[:, 8:10]), 1))
    return tf.where(in_segment & (value >= 1) & (value <= 8), value, 1)
