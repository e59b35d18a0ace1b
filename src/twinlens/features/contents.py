"""What a file holds, as a digest; remembered until the file is changed."""

import hashlib
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from twinlens.errors import InputError

SETTLED_NS = 1_000_000_000  # file systems' clocks tick in milliseconds, some in seconds
READERS = 4  # threads; reading waits for the disk more than for the processor


def content_digests(paths: list[str], memory: Path) -> list[str]:
    """Digest of each file's bytes, 32 hex digits; empty where it cannot be read.

    Args:
        paths: files.
        memory: SQLite file that remembers digests by path, size and times of change,
            so that a second run reads no file. Files that were changed just now, or
            by the clock will be, are not remembered: another change might show the
            same time.

    Raises:
        InputError: the disk is full, or the file is damaged.
    """
    try:
        return _remembered(paths, memory)
    except sqlite3.Error as error:
        raise InputError(
            f"Cannot keep the pictures' digests in {memory} ({error}): no room for it, "
            "or the folder cannot be written. Free some room or set cache.path to "
            "another disk."
        ) from error


def _remembered(paths: list[str], memory: Path) -> list[str]:
    begun = time.time_ns()
    stamps = [_stamp(path) for path in paths]
    with closing(sqlite3.connect(memory, timeout=60)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS digests "
            "(path TEXT PRIMARY KEY, stamp TEXT, digest TEXT)"
        )
        known = {
            (path, stamp): digest
            for path, stamp, digest in database.execute("SELECT * FROM digests")
        }
        keys = [(os.path.abspath(p), s) for p, s in zip(paths, stamps, strict=True)]
        missing = sorted({key for key in keys if key[1] and key not in known})
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(_digest, [path for path, _ in missing])
            rows = [(*key, d) for key, d in zip(missing, found, strict=True) if d]
        kept = [row for row in rows if _is_settled(row[1], begun)]
        database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", kept)
    known |= {(path, stamp): digest for path, stamp, digest in rows}
    return [known.get(key, "") for key in keys]


def _stamp(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return ""
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def _is_settled(stamp: str, now: int) -> bool:
    return int(stamp.rpartition(":")[2]) < now - SETTLED_NS


def _digest(path: str) -> str:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
