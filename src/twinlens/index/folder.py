"""The files of an index folder, and who may write them."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from twinlens.errors import InputError

FORMAT = 1  # of the folder; raise it when older readers would misread it
INFO = "index.json"
VECTORS = "vectors.f32"
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


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Writes `index.json`, whole or not at all."""
    partial = folder / f"{INFO}.partial"
    partial.write_text(json.dumps(info, indent=2) + "\n", "utf-8")
    partial.replace(folder / INFO)


def files(folder: Path, generation: int) -> dict[str, Path]:
    """What a generation consists of, beside the vectors."""
    return {
        "items": folder / f"items-{generation}.parquet",
        "neighbours": folder / f"neighbours-{generation}.faiss",
    }


def keep(old: Path, new: Path) -> None:
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
def writing(folder: Path) -> Iterator[None]:
    """Holds the folder's lock.

    Raises:
        InputError: another process holds it.
    """
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is writing {folder}. Give the command again when it is "
            "done; nothing was changed."
        ) from None
    try:
        yield
    finally:
        lock.release()
