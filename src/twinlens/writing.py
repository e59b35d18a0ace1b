"""Files that appear whole or not at all, and what is said when they cannot be written.

A process may be killed at any moment, and a disk may be full: whoever reads a file
that was written here finds what was there before, or all of the new.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from twinlens.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, for one reason or another


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file that takes the place of another when it is complete and on disk.

    Args:
        path: of the file, in a folder that is there.

    Yields:
        Where to write; it has the suffix of `path`.

    Raises:
        InputError: it cannot be written; what was there before still is.
    """
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    with writable(path):
        try:
            yield partial
            to_disk(partial)
            partial.replace(path)
            to_disk(path.parent)  # before somebody removes what the old one named
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Inside, what the system refuses is said in words.

    Raises:
        InputError: names the path, the reason and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # of whoever reads what is printed
            raise
        reason = error.strerror or str(error)
        if error.errno in FULL:
            raise InputError(
                f"There is no room to write {path} ({reason}). What was written "
                "before is kept: free some room and give the same command again."
            ) from error
        raise InputError(
            f"{path} cannot be written ({reason}). What was written before is kept: "
            "name a folder that is there and can be written."
        ) from error


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
