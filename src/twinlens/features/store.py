"""A folder of features: named by what made it, filled in blocks, complete or absent.

`<root>/<digest>/` holds `features.npy`, `ids.parquet`, `key.json` and `speed.json`.
While it is filled it is called `<digest>.partial` and keeps a journal of finished
blocks; the rename at the end is atomic, so a folder with its final name is complete.
Another key is another folder: nothing goes stale, nothing needs invalidating.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.lib import format as npy

from twinlens.errors import InputError
from twinlens.progress import Progress
from twinlens.writing import FULL, to_disk

JOURNAL = "journal.jsonl"

Piece = dict[str, Any]  # what encoding a block takes: lists of text, arrays of numbers
Encoded = tuple[np.ndarray, dict[int, str]]  # its features, and what is broken by place
Encode = Callable[[Iterable[Piece]], Iterable[Encoded]]  # of pieces one after another


@dataclass(frozen=True)
class Features:
    """Features of a set of items, read from disk as they are used.

    Attributes:
        values: `(n, dim)` or `(n, views, dim)` memory map; view 0 is the plain one.
        ids: `(n,)` item of each row.
        errors: `(n,)` why an item has no features; empty where it has.
        folder: where they are.
    """

    values: np.ndarray
    ids: np.ndarray
    errors: np.ndarray
    folder: Path

    @property
    def items_per_second(self) -> float:
        """How fast they were encoded, set-up included; NaN where nobody knows."""
        path = self.folder / "speed.json"
        if not path.exists():
            return float("nan")
        speed = json.loads(path.read_text("utf-8"))
        if not speed["items"]:  # it was killed when all were encoded
            return float("nan")
        return speed["items"] / speed["seconds"]

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """`(m,)` row of each of `ids`; -1 where an item is unknown or broken."""
        index = pd.Index(self.ids)
        rows = index.get_indexer(pd.Index(ids))
        broken = (rows >= 0) & (self.errors[rows] != "")
        return np.where(broken, -1, rows)


@dataclass(frozen=True)
class Job:
    """What is to be encoded, and how a block of it is done.

    Attributes:
        key: everything that decides the features but the items, as plain values.
        ids: `(n,)` strings, the items in row order.
        contents: `(n,)` strings that stand for the items' contents.
        shape: of one item's features, `(dim,)` or `(views, dim)`.
        dtype: of the stored features.
        block_size: items between two entries of the journal.
        piece: what encoding the rows from a first to a last one takes.
        encode: pieces to `(rows, *shape)` features each, and the reasons of those rows
            that are broken; in the same order.
        what, unit: for the progress line.
    """

    key: dict[str, Any]
    ids: np.ndarray
    contents: np.ndarray
    shape: tuple[int, ...]
    dtype: str
    block_size: int
    piece: Callable[[int, int], Piece]
    encode: Encode
    what: str
    unit: str

    def digest(self) -> str:
        """Names the folder: 24 hex digits over key, order, ids and contents."""
        digest = hashlib.blake2b(digest_size=12)
        digest.update(json.dumps(self.key, sort_keys=True).encode())
        digest.update(f"{self.shape} {self.dtype}".encode())
        for pair in zip(self.ids, self.contents, strict=True):
            digest.update("\x1f".join(pair).encode() + b"\x1e")
        return digest.hexdigest()


def complete(root: Path, job: Job) -> Features:
    """The job's features: read if they are there, else encoded and kept.

    A job that was interrupted goes on behind its last finished block. Of two
    processes with the same job one encodes and the other waits.

    Raises:
        InputError: the disk has not enough room, or the folder cannot be written.
    """
    final = root / job.digest()
    if final.is_dir():
        return read(final)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_one(root / f"{final.name}.lock", job.what):
            if not final.is_dir():
                _fill(final.with_suffix(".partial"), job)
                final.with_suffix(".partial").rename(final)
                (final / JOURNAL).unlink()  # not before: a kill would cost all blocks
    except OSError as error:
        raise _explained(error, root, job) from error
    return read(final)


def read(folder: Path) -> Features:
    """Features of a complete folder.

    Raises:
        InputError: somebody has removed or changed a file of it.
    """
    try:
        table = pd.read_parquet(folder / "ids.parquet")
        values = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"The feature cache {folder} cannot be read ({error}): a file of it was "
            "removed or changed. Remove the folder; the same command encodes it anew."
        ) from None
    ids, errors = (table[name].to_numpy(dtype=object) for name in ("id", "error"))
    return Features(values, ids, errors, folder)


class _only_one:  # noqa: N801 - reads as a word behind `with`
    """Holds a lock file; says so when it has to wait for another process."""

    def __init__(self, path: Path, what: str) -> None:
        self.lock, self.what = FileLock(path), what

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            print(f"{self.what}: another process is at it; waiting for it.", flush=True)
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _fill(folder: Path, job: Job) -> None:
    path, journal = folder / "features.npy", folder / JOURNAL
    header = _npy_header(job)
    size = len(header) + _row_bytes(job) * len(job.ids)
    if not path.exists() or path.stat().st_size != size:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _reserve(path, header, size)
    done, errors = _read_journal(journal, job)
    begun, left = time.monotonic(), len(job.ids) - done
    with (
        open(path, "r+b", buffering=0) as values,
        open(journal, "a", encoding="utf-8") as log,
        Progress(job.what, len(job.ids), job.unit, done) as progress,
    ):
        blocks = list(_blocks(done, len(job.ids), job.block_size))
        found = job.encode(job.piece(*block) for block in blocks)
        for (first, last), (block, by_place) in zip(blocks, found, strict=True):
            broken = {first + place: reason for place, reason in by_place.items()}
            _write_rows(values, len(header) + first * _row_bytes(job), block, job)
            _log_block(log, first, last, broken)
            errors |= broken
            progress.advance(last - first)
    speed = {"items": left, "seconds": time.monotonic() - begun}
    (folder / "speed.json").write_text(json.dumps(speed) + "\n", "utf-8")
    _finish(folder, job, errors)


def _blocks(done: int, total: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(done, total, size):
        yield first, min(first + size, total)


def _row_bytes(job: Job) -> int:
    return int(np.prod(job.shape)) * np.dtype(job.dtype).itemsize


def _npy_header(job: Job) -> bytes:
    import io

    buffer = io.BytesIO()
    description = npy.dtype_to_descr(np.dtype(job.dtype))
    shape = (len(job.ids), *job.shape)
    fields = {"descr": description, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def _reserve(path: Path, header: bytes, size: int) -> None:
    """Takes all the room now: a full disk is found before the work, not during it."""
    with open(path, "wb") as file:
        file.write(header)
        file.flush()
        os.posix_fallocate(file.fileno(), 0, size)


def _write_rows(file: Any, offset: int, block: np.ndarray, job: Job) -> None:
    data = np.ascontiguousarray(block, dtype=job.dtype)
    view = memoryview(data).cast("B")
    file.seek(offset)
    while view:
        view = view[file.write(view) :]
    os.fdatasync(file.fileno())  # on disk before the journal says so


def _log_block(log: Any, first: int, last: int, broken: dict[int, str]) -> None:
    entry = {"first": first, "last": last, "broken": list(broken.items())}
    log.write(json.dumps(entry) + "\n")
    log.flush()
    os.fsync(log.fileno())


def _read_journal(path: Path, job: Job) -> tuple[int, dict[int, str]]:
    """Rows that are finished, and the reasons of the broken ones among them."""
    done, errors, kept = 0, {}, 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            break  # the line that was being written when the process died
        if entry["first"] != done or entry["last"] > len(job.ids):
            break
        done = entry["last"]
        errors |= {int(row): reason for row, reason in entry["broken"]}
        kept += len(line)
    if path.exists():
        os.truncate(path, kept)  # at once: the lines before are never away
    return done, errors


def _finish(folder: Path, job: Job, errors: dict[int, str]) -> None:
    reasons = [errors.get(row, "") for row in range(len(job.ids))]
    table = {"id": job.ids, "content": job.contents, "error": reasons}
    pd.DataFrame(table, dtype=object).astype("string").to_parquet(
        folder / "ids.parquet", index=False
    )
    text = json.dumps(job.key, indent=2, sort_keys=True)
    (folder / "key.json").write_text(text + "\n", "utf-8")
    for path in [*folder.iterdir(), folder]:
        to_disk(path)


def _explained(error: OSError, root: Path, job: Job) -> InputError:
    need = _row_bytes(job) * len(job.ids) / 1e6
    if error.errno in FULL:
        return InputError(
            f"{job.what}: no room for {need:,.0f} MB of features in {root} "
            f"({error.strerror}). Free some room or set cache.path to another disk; "
            "what is encoded is kept, and the same command goes on from there."
        )
    return InputError(
        f"{job.what}: cannot write the feature cache in {root}: {error}. "
        "Set cache.path to a folder that can be written."
    )
