"""What readers are given, what they give back, and how they open files.

A reader turns one publisher's files into rows and judges nothing that all sources
share: empty captions, duplicates, missing files and splits are looked at once, in
`twinlens.data.checks`.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens.data.readers.guess import advice
from twinlens.errors import InputError

PLACE, NUMBER = "_place", "_number"  # columns that say where a row comes from
GROUP = "_group"  # column that says which rows belong together
MALFORMED = "malformed row"


@dataclass(frozen=True)
class Problem:
    """Something wrong in the data that is counted, not fatal.

    Args:
        kind: what is wrong, the same words for all of its kind.
        where: file and row or entry, `"captions.txt, row 17"`.
        detail: the picture or text it is about.
    """

    kind: str
    where: str
    detail: str


@dataclass
class Source:
    """What a reader found, unchecked.

    Args:
        rows: one per caption: `image_id`, `image_path` (empty where the picture is
            unknown), `caption`; `split` only if the source has splits, empty where
            it leaves a picture out; attributes, which become text unless they are
            nullable integers (`Int64`); and, to name a row in an error, `PLACE`
            (`"captions.txt, row"`) and `NUMBER` (17). `GROUP` where rows of several
            pictures have to be in one split; these may have one file in common.
        problems: what only the reader can see, such as malformed rows.
        pictures: id → where, of pictures known without their captions.
    """

    rows: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    pictures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReaderOptions:
    """Where a source differs from the usual layout.

    Args:
        images: picture folder, inside the source or as seen from here.
        captions: captions file, likewise.
        columns: our column name → the file's.
    """

    images: str | Path | None = None
    captions: str | Path | None = None
    columns: Mapping[str, str] | None = None

    def accept(self, reader: str, *names: str) -> None:
        """Refuses options that would have no effect on this reader."""
        for name in ("images", "captions", "columns"):
            if getattr(self, name) and name not in names:
                raise InputError(
                    f"The reader {reader!r} does not use `{name}`, but it is "
                    f"{getattr(self, name)!r}. Leave it out (data.{name})."
                )

    def image_folder(self, root: Path, usual: Sequence[str]) -> Path:
        """The folder of the pictures: the given one, else the first usual one."""
        found = _first(root, self.images, usual, Path.is_dir)
        if found is None:
            looked = [str(self.images)] if self.images else usual
            raise InputError(
                f"No picture folder in {root}: looked for {', '.join(looked)}. Put "
                "the pictures there, or name their folder with `images` (data.images)."
            )
        return found

    def captions_file(self, path: Path, usual: Sequence[str], reader: str) -> Path:
        """The captions file: `path` itself, the given one, or the first usual one."""
        if existing(path).is_file():
            return path
        found = _first(path, self.captions, usual, Path.is_file)
        if found is None:
            looked = [str(self.captions)] if self.captions else usual
            raise InputError(
                f"No captions file in {path}: looked for {', '.join(looked)}. Name the "
                "file with `captions` (data.captions), or choose another reader."
                + advice(path, reader)
            )
        return found


def _first(root: Path, given: Any, usual: Sequence[str], exists: Any) -> Path | None:
    names = [root / given, Path(given)] if given else [root / name for name in usual]
    return next((name for name in names if exists(name)), None)


def existing(path: Path) -> Path:
    """The path, if there is something."""
    if not path.exists():
        raise InputError(
            f"{path} does not exist. Give the folder or file of the data set "
            f"(data.path); relative paths start from {Path.cwd()}."
        )
    return path


def read_text(file: Path) -> str:
    """A whole UTF-8 file, with or without byte order mark.

    Raises:
        InputError: it is not UTF-8; names the row and the byte.
    """
    contents = file.read_bytes()
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = contents.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{file}, row {row}: byte {error.start} (0x{contents[error.start]:02x}) is "
            "not UTF-8. Save the file as UTF-8."
        ) from None


def read_json(file: Path) -> Any:
    """A parsed JSON file.

    Raises:
        InputError: it is not JSON; names row and column.
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}, row {error.lineno}, column {error.colno}: not valid JSON "
            f"({error.msg}). It may be cut short: download or write it again."
        ) from None


def read_delimited(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with the number of the line on which each ends.

    Raises:
        InputError: the quoting is broken; names the row.
    """
    stream = io.StringIO(read_text(file), newline="")
    rows = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{file}, row {rows.line_num}: not valid CSV ({error}). A quotation mark "
            "inside a quoted text is written twice."
        ) from None


def rows_below(
    file: Path, header: Sequence[str], reader: str
) -> Iterator[tuple[int, list[str]]]:
    """Rows of a comma-separated file below its header; see `read_delimited`.

    Raises:
        InputError: the header is another one.
    """
    rows = read_delimited(file, ",")
    _, found = next(rows, (1, []))
    if [name.strip() for name in found] != list(header):
        raise InputError(
            f"{file}, row 1: the columns are {', '.join(found) or 'none'}; expected "
            f"{', '.join(header)}. Correct the header, or choose another reader."
            + advice(file, reader)
        )
    return rows


def as_text(value: Any) -> str:
    """A cell as text: nothing for null, JSON for a list or an object."""
    if isinstance(value, str):  # JSON can hold halves of characters: replaced
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if pd.isna(value) else str(value)
