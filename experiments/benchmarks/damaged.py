"""Pictures, and what a fuzzer makes of them: always the same for the same seed."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
HEADER = 64  # bytes in which pictures say what they are
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff")


def picture(random: np.random.Generator, size: int = 64) -> bytes:
    """A file of any kind that shows soft colours."""
    coarse = random.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    sides = (size, int(size * random.uniform(0.7, 1.4)))
    shown, file = Image.fromarray(coarse).resize(sides, Image.BICUBIC), io.BytesIO()
    shown.save(file, KINDS[random.integers(len(KINDS))])
    return file.getvalue()


def damaged(contents: bytes, random: np.random.Generator) -> bytes:
    """The file with one to three kinds of damage."""
    for _ in range(random.integers(1, 4)):
        contents = DAMAGES[random.integers(len(DAMAGES))](contents, random)
    return contents


def _flipped(contents: bytes, random: np.random.Generator) -> bytes:
    data = bytearray(contents)
    for _ in range(min(len(data), random.integers(1, 30))):
        data[random.integers(len(data))] ^= 1 << random.integers(8)
    return bytes(data)


def _cut(contents: bytes, random: np.random.Generator) -> bytes:
    return contents[: random.integers(len(contents) + 1)]


def _lied(contents: bytes, random: np.random.Generator) -> bytes:
    """A number of the header, such as the height, is another."""
    place = int(random.integers(min(HEADER, len(contents)) + 1))
    said = NUMBERS[random.integers(len(NUMBERS))][: random.integers(1, 5)]
    return contents[:place] + said + contents[place + len(said) :]


def _repeated(contents: bytes, random: np.random.Generator) -> bytes:
    start, end = sorted(random.integers(0, len(contents) + 1, 2))
    return contents[:end] + contents[start:]


def _replaced(contents: bytes, random: np.random.Generator) -> bytes:
    start, end = sorted(random.integers(0, len(contents) + 1, 2))
    return contents[:start] + random.bytes(end - start) + contents[end:]


def _renamed(contents: bytes, random: np.random.Generator) -> bytes:
    """The beginning of one kind, the rest of another."""
    other = picture(random, 16)
    length = int(random.integers(4, 30))
    return other[:length] + contents[length:]


DAMAGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _flipped,
    _cut,
    _lied,
    _repeated,
    _replaced,
    _renamed,
)
