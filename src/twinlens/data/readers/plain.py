"""A plain table of pictures and texts: CSV, TSV, JSONL or Parquet."""

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from twinlens.data.readers.guess import TABLE_SUFFIXES, advice
from twinlens.data.readers.source import (
    MALFORMED,
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    Source,
    as_text,
    read_delimited,
    read_text,
)
from twinlens.errors import InputError

USUAL_NAMES = {
    "image_path": ("image_path", "image"),
    "caption": ("caption", "text"),
    "split": ("split",),
    "image_id": ("image_id",),
}
REQUIRED = ("image_path", "caption")


def table(path: Path, options: ReaderOptions) -> Source:
    """Reads one row per pair of picture and text.

    Args:
        path: the file, or its folder with `options.captions`.
        options: `columns` maps `image_path`, `caption`, `split`, `image_id` to the
            file's names. `images`: folder to which picture paths are relative,
            instead of the file's own.

    Returns:
        Rows with every other column as an attribute. Without a column of ids, the
        picture's path as written is its id.
    """
    options.accept("table", "images", "captions", "columns")
    usual = [f"captions{suffix}" for suffix in TABLE_SUFFIXES]
    file = options.captions_file(path, usual, "table")
    cells, problems = _cells(file)
    rows = _renamed(cells, file, options.columns or {})
    folder = options.image_folder(file.parent, ["."]) if options.images else file.parent
    pictures = [os.path.normpath(cell) if cell else "" for cell in rows["image_path"]]
    rows["image_path"] = [os.path.join(folder, p) if p else "" for p in pictures]
    if "image_id" not in rows:
        rows["image_id"] = pictures
    return Source(rows.assign(**{PLACE: f"{file.name}, row"}), problems)


def _cells(file: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """All cells as text under the file's column names, and `NUMBER`."""
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _delimited(file, "," if suffix == ".csv" else "\t")
    if suffix == ".jsonl":
        return _json_lines(file)
    if suffix == ".parquet":
        return _parquet(file), []
    raise InputError(
        f"{file} is none of {', '.join(TABLE_SUFFIXES)}, which the reader 'table' "
        f"reads. Convert it, or choose another reader.{advice(file, 'table')}"
    )


def _delimited(file: Path, delimiter: str) -> tuple[pd.DataFrame, list[Problem]]:
    numbered = read_delimited(file, delimiter)
    _, header = next(numbered, (0, []))
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice:
        reason = f"has the columns {twice} more than once" if twice else "is empty"
        raise InputError(f"{file} {reason}. Expected a row of distinct column names.")
    rows, problems = [], []
    for number, row in numbered:
        if len(row) == len(header):
            rows.append((*row, number))
        else:
            where = f"{file.name}, row {number}"
            detail = f"{len(row)} cells, but {len(header)} columns"
            problems.append(Problem(MALFORMED, where, detail))
    return pd.DataFrame(rows, columns=[*header, NUMBER]), problems


def _json_lines(file: Path) -> tuple[pd.DataFrame, list[Problem]]:
    rows, problems = [], []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            row = f"not valid JSON: {error.msg} at column {error.colno}"
        if isinstance(row, dict):
            rows.append({key: as_text(value) for key, value in row.items()})
            rows[-1][NUMBER] = number
        else:
            detail = row if isinstance(row, str) else "expected an object"
            problems.append(Problem(MALFORMED, f"{file.name}, row {number}", detail))
    cells = pd.DataFrame(rows)
    return cells.fillna({name: "" for name in cells if name != NUMBER}), problems


def _parquet(file: Path) -> pd.DataFrame:
    try:
        cells = pd.read_parquet(file, dtype_backend="numpy_nullable")
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise InputError(
            f"{file} cannot be read as Parquet ({error}). Write it again."
        ) from None
    cells = cells.reset_index(drop=True)
    cells = pd.DataFrame({str(n): [as_text(v) for v in cells[n]] for n in cells})
    return cells.assign(**{NUMBER: range(1, len(cells) + 1)})


def _renamed(
    cells: pd.DataFrame, file: Path, columns: Mapping[str, str]
) -> pd.DataFrame:
    """The cells under our names; a column in the way of one is kept as `source_…`."""
    present = [name for name in cells if name != NUMBER]
    for name in columns:
        if name not in USUAL_NAMES:
            raise InputError(
                f"`columns` has the unknown name {name!r}; expected "
                f"{', '.join(USUAL_NAMES)}. Other columns are kept as they are."
            )
    found = {}
    for name, usual in USUAL_NAMES.items():
        wanted = (columns[name],) if name in columns else usual
        match = next((column for column in wanted if column in present), None)
        if match is not None:
            found[name] = match
        elif name in REQUIRED or name in columns:
            raise InputError(_missing_column(file, name, wanted, present))
    in_the_way = [n for n in found if n in present and found[n] != n]
    taken = {n: f"source_{n}" for n in in_the_way if n not in found.values()}
    attributes = cells.drop(columns=list(found.values())).rename(columns=taken)
    return attributes.assign(**{name: cells[column] for name, column in found.items()})


def _missing_column(
    file: Path, name: str, wanted: tuple[str, ...], present: list[str]
) -> str:
    near = [n for w in wanted for n in difflib.get_close_matches(w, present, 1, 0.5)]
    nearest = f" The nearest is {near[0]!r}." if near else ""
    return (
        f"{file} has no column {' or '.join(map(repr, wanted))}; it has "
        f"{', '.join(map(repr, present)) or 'none'}.{nearest} Name the right one with "
        f"`columns`: {{{name!r}: …}} (data.columns).{advice(file, 'table')}"
    )
