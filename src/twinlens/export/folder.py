"""What is written appears whole under its name, or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from twinlens.errors import InputError

CREATED = 0o777  # what folders get, less the process's mask

UNWRITABLE = (
    OSError,
    tf.errors.ResourceExhaustedError,  # as which TensorFlow reports a full disk
    tf.errors.PermissionDeniedError,
    tf.errors.UnavailableError,
)


def check_absent(path: Path) -> None:
    """Refuses what is there already, before anything is done for it.

    Raises:
        InputError: says what to do.
    """
    if path.exists():
        raise InputError(f"{path} is there already. Remove it, or name another.")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A new file that gets its name when the block ends without an error.

    As `new_folder`, and yields the name to write it under.
    """
    check_absent(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except UNWRITABLE as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)  # after the replacement: nothing


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder that gets its name when the block ends without an error.

    Args:
        path: of the folder; what is above it is made.

    Yields:
        Where to write.

    Raises:
        InputError: it is there already, or cannot be written.
    """
    check_absent(path)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(".partial", f"{path.name}-", path.parent))
        yield partial
        partial.chmod(CREATED & ~_mask())  # mkdtemp's are for their owner alone
        partial.rename(path)
    except UNWRITABLE as error:
        raise _unwritable(path, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)  # after the rename: nothing


def _unwritable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be written ({' '.join(str(error).split())[:300]}). Nothing was "
        "left there. Make room, or name another place."
    )


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
