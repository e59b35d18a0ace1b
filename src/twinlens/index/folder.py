"""The files of an index folder, and who may write them."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from twinlens.errors import InputError
from twinlens.writing import to_disk, whole_file, writable

FORMAT = 1  # of the folder; raise it when older readers would misread it
INFO = "index.json"
VECTORS = "vectors.f32"
ITEMS, NEIGHBOURS = "items", "neighbours"  # and the generation's number
REMOVED = "removed\n"  # column of the file that no attribute can be called


def check_free(folder: Path) -> None:
    """Refuses a folder with something in it, before anything is done for it.

    Raises:
        InputError: says what to do.
    """
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise InputError(
            f"{folder} is there already. Add to it with --add, remove it, or name "
            "another folder with --index."
        )


def read_info(folder: Path) -> dict[str, Any]:
    """What `index.json` holds.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = folder / INFO
    if not path.is_file():
        raise InputError(
            f"There is no index in {folder} (no {INFO}). Build one with "
            "`twinlens index --run RUN`."
        )
    try:
        info = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is no JSON ({error}): it was cut short. Build the index anew."
        ) from None
    if info.get("format") != FORMAT:
        raise InputError(
            f"{path} is of format {info.get('format')!r}, but this twinlens reads "
            f"{FORMAT}. Build the index anew."
        )
    return info


def stamp_of(folder: Path) -> tuple[int, ...]:
    """Tells two states of an index apart without reading it; nothing where is none."""
    try:
        state = (folder / INFO).stat()
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Writes `index.json`, whole or not at all."""
    with whole_file(folder / INFO) as path:
        path.write_text(json.dumps(info, indent=2) + "\n", "utf-8")


def files(folder: Path, generation: int) -> dict[str, Path]:
    """What a generation consists of, beside the vectors."""
    return {
        "items": folder / f"{ITEMS}-{generation}.parquet",
        "neighbours": folder / f"{NEIGHBOURS}-{generation}.faiss",
    }


def write_generation(
    folder: Path,
    info: dict[str, Any],
    items: pd.DataFrame,
    removed: np.ndarray,
    save: Callable[[Path], None] | None,
) -> None:
    """Writes the next generation, lets `index.json` name it and removes all others.

    Args:
        folder: of the index.
        info: what `index.json` holds; gets the new number and count.
        items: all of them.
        removed: `(n,)` bool.
        save: writes the neighbours; `None` where they have not changed.
    """
    old = files(folder, info["generation"])
    new = files(folder, info["generation"] + 1)
    _remove(new.values())  # of a change that was killed: perhaps second names of `old`
    info |= {"generation": info["generation"] + 1, "count": len(items)}
    try:
        write_items(new["items"], items, removed)
        if save is not None:
            save(new["neighbours"])
        else:
            _keep(old["neighbours"], new["neighbours"])
        for path in new.values():
            if path.exists():
                to_disk(path)
        write_info(folder, info)
    except (OSError, InputError):  # most of all a full disk: leave the room there was
        _remove(new.values())
        raise
    found = [*folder.glob(f"{ITEMS}-*"), *folder.glob(f"{NEIGHBOURS}-*")]
    _remove(path for path in found if path not in new.values())


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _keep(old: Path, new: Path) -> None:
    """The same file under a second name, where there is one."""
    if old.exists():
        try:
            os.link(old, new)
        except OSError:  # file systems without links
            shutil.copyfile(old, new)


def write_items(path: Path, items: pd.DataFrame, removed: np.ndarray) -> None:
    """Writes items, and which of them are removed."""
    items.assign(**{REMOVED: removed}).to_parquet(path, index=False)


def read_items(folder: Path, info: dict[str, Any]) -> tuple[pd.DataFrame, np.ndarray]:
    """Items of the index, and `(n,)` bool, which of them are removed.

    Raises:
        InputError: the file is missing, damaged, or of another length.
    """
    path = files(folder, info["generation"])["items"]
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): the index was cut short. Build it anew."
        ) from None
    if len(table) != info["count"]:
        raise InputError(
            f"{path} has {len(table)} items, but {INFO} says {info['count']}. Build "
            "the index anew."
        )
    return table, table.pop(REMOVED).to_numpy(bool).copy()


@contextlib.contextmanager
def new_index_folder(path: Path) -> Iterator[Path]:
    """A folder that gets its name when the block ends without an error.

    What builds that were killed have left of the same index is removed.

    Yields:
        Where to build.

    Raises:
        InputError: another process builds it, or it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(path.with_name(f"{path.name}.lock"), path):
            check_free(path)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                yield partial
                partial.rename(path)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the folder's lock.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    with writable(folder), _held(folder / "lock", folder):
        yield


@contextlib.contextmanager
def _held(lock_file: Path, what: Path) -> Iterator[None]:
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is writing {what}. Give the command again when it is "
            "done; nothing was changed."
        ) from None
    try:
        yield
    finally:
        lock.release()
