"""Near-duplicate pictures in different splits: they leak answers into the test."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from twinlens.errors import InputError
from twinlens.progress import Progress

SIDE = 16  # bits a side of the hash, 256 in all
MAX_DISTANCE = 32  # bits; see `find_leaks`
MAX_COLOUR_DIFFERENCE = 24  # of 255, at the place where two thumbnails differ most
MIN_STEP = 1.0  # grey levels; smaller steps are noise of the encoder
MIN_SET_BITS = 16  # fewer, or as many as not: a flat picture, which is like any other
DRAFT = 4 * SIDE  # pixels; a JPEG is decoded no larger than needed for this
READERS = 4  # threads; Pillow decodes outside Python's lock
BLOCK = 4096  # pictures a side of a block of distances: 64 MB
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG


def find_leaks(table: pd.DataFrame, max_distance: int = MAX_DISTANCE) -> pd.DataFrame:
    """Pairs of pictures that look the same and are in different splits.

    Two pictures are alike where their difference hashes (is each place of a 16 x 16
    thumbnail brighter than the one left of it?) differ in few bits, and the
    thumbnails' colours are close everywhere. It finds pictures that were scaled,
    encoded again or slightly corrected, not cropped or mirrored ones.

    Args:
        table: caption table; uses `image_id`, `image_path`, `split`. Pictures that
            cannot be read are left out, and so are flat ones: nothing tells them
            apart.
        max_distance: bits of 256 that may differ. Copies of Flickr8k pictures at half
            the size and JPEG quality 50 differ in 5, rarely 22, at most 32; of the
            4.5 million pairs among 3,000 of its pictures none is as close.

    Returns:
        `image_id_a, split_a, image_id_b, split_b, distance`, most alike first.

    Raises:
        InputError: `max_distance` is not in 0…256.
    """
    if not 0 <= max_distance <= SIDE * SIDE:
        raise InputError(
            f"max_distance is {max_distance}, but a hash has {SIDE * SIDE} bits. "
            f"Choose 0 to {SIDE * SIDE}; the default is {MAX_DISTANCE}."
        )
    pictures = table.drop_duplicates("image_id")
    thumbnails, readable = _thumbnails(pictures["image_path"].tolist())
    bits = difference_hash(thumbnails)
    usable = np.flatnonzero(readable & ~is_flat(bits))
    splits = pictures["split"].to_numpy(dtype=object)[usable]
    a, b, distance = _alike(bits[usable], thumbnails[usable], splits, max_distance)
    return _leak_table(pictures.iloc[usable], a, b, distance)


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """`(n, 16, 17, 3)` pixels to `(n, 256)` bool: brighter than the place before?"""
    grey = thumbnails.astype(np.float32) @ LUMINANCE
    return (np.diff(grey, axis=2) > MIN_STEP).reshape(len(thumbnails), -1)


def is_flat(bits: np.ndarray) -> np.ndarray:
    """`(n,)` whether a hash says too little to compare by it."""
    set_bits = bits.sum(axis=1)
    return (set_bits < MIN_SET_BITS) | (set_bits > SIDE * SIDE - MIN_SET_BITS)


def thumbnail(path: str) -> np.ndarray | None:
    """`(16, 17, 3)` uint8, upright; `None` where the picture cannot be read."""
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (DRAFT, DRAFT))
            upright = ImageOps.exif_transpose(picture.convert("RGB"))
            small = upright.resize((SIDE + 1, SIDE), Image.Resampling.BILINEAR)
            return np.asarray(small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # reported where pictures are decoded for training


def _thumbnails(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.zeros((len(paths), SIDE, SIDE + 1, 3), np.uint8)
    readable = np.zeros(len(paths), bool)
    with (
        Progress("comparing pictures", len(paths), "pictures") as progress,
        ThreadPoolExecutor(READERS) as pool,
    ):
        for row, small in enumerate(pool.map(thumbnail, paths)):
            if small is not None:
                pixels[row], readable[row] = small, True
            progress.advance()
    return pixels, readable


def _leak_table(
    pictures: pd.DataFrame, a: np.ndarray, b: np.ndarray, distance: np.ndarray
) -> pd.DataFrame:
    leaks = pd.DataFrame(
        {
            "image_id_a": pictures["image_id"].to_numpy()[a],
            "split_a": pictures["split"].to_numpy()[a],
            "image_id_b": pictures["image_id"].to_numpy()[b],
            "split_b": pictures["split"].to_numpy()[b],
            "distance": distance,
        }
    )
    return leaks.sort_values(
        ["distance", "image_id_a", "image_id_b"], ignore_index=True
    )


def _alike(
    bits: np.ndarray, thumbnails: np.ndarray, splits: np.ndarray, max_distance: int
) -> np.ndarray:
    """`(3, pairs)` row, row and distance of pictures that look the same."""
    nothing = np.zeros((3, 0), np.int64)
    found = [nothing]
    for pairs in _close_pairs(bits, splits, max_distance):
        for start in range(0, pairs.shape[1], BLOCK):
            part = pairs[:, start : start + BLOCK]
            first, second = thumbnails[part[0]], thumbnails[part[1]]
            difference = np.maximum(first, second) - np.minimum(first, second)
            largest = difference.reshape(part.shape[1], -1).max(axis=1)
            found.append(part[:, largest <= MAX_COLOUR_DIFFERENCE])
    return np.concatenate(found, axis=1)


def _close_pairs(
    bits: np.ndarray, splits: np.ndarray, max_distance: int
) -> Iterator[np.ndarray]:
    """`(3, pairs)` row, row and distance across splits, by blocks; none is missed.

    A product of two hashes as vectors of ±1 is 256 - 2 x distance. 100,000 pictures
    take half a minute on two cores, less than reading them. Banding the bits would
    not help: to miss none of distance 32 needs 33 bands, of 7 bits each, and all
    products before one white background share some of those.
    """
    signs = bits.astype(np.float32) * 2 - 1
    rows = [np.flatnonzero(splits == split) for split in sorted(set(splits))]
    for one, other in itertools.combinations(rows, 2):
        for first, second in itertools.product(_blocks(one), _blocks(other)):
            products = signs[first] @ signs[second].T
            i, j = np.nonzero(products >= SIDE * SIDE - 2 * max_distance)
            distance = (SIDE * SIDE - products[i, j].astype(np.int64)) // 2
            yield np.stack([first[i], second[j], distance])


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
