"""Vectors in one growing file, read as a memory map."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from twinlens.errors import InputError


def append(path: Path, count: int, blocks: Iterable[np.ndarray]) -> int:
    """Writes vectors behind the first `count` of a file.

    What an interrupted writer left behind them is overwritten; readers of the first
    `count` do not notice.

    Args:
        path: of the file, which may not be there yet.
        count: vectors that stay.
        blocks: `(m, dim)` float32 each, `dim` as in the file.

    Returns:
        How many vectors the file has now.
    """
    end = None
    with open(path, "r+b" if path.exists() else "w+b", buffering=0) as file:
        try:
            for block in blocks:
                data = np.ascontiguousarray(block, np.float32)
                if end is None:
                    end = file.seek(count * data.shape[1] * data.itemsize)
                _write(file, data)
                file.truncate()
                count += len(data)
            os.fsync(file.fileno())
        except OSError:  # most of all a full disk: leave the room there was
            if end is not None:
                file.truncate(end)
            raise
    return count


def _write(file: BinaryIO, data: np.ndarray) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def read(path: Path, count: int, dim: int) -> np.ndarray:
    """`(count, dim)` float32 memory map of a file's first vectors.

    Raises:
        InputError: the file is missing or shorter than that.
    """
    if not count:
        return np.zeros((0, dim), np.float32)
    wanted = count * dim * np.dtype(np.float32).itemsize
    found = path.stat().st_size if path.exists() else 0
    if found < wanted:
        raise InputError(
            f"{path} has {found:,} bytes, but {count:,} vectors of {dim} numbers take "
            f"{wanted:,}: the index was cut short. Build it anew."
        )
    return np.memmap(path, np.float32, "r", shape=(count, dim))
