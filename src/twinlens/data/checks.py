"""What is wrong with rows of any source: counted where one can go on, else refused.

Each check takes the rows and the list of problems, adds what it finds to the list,
and gives back the rows that are left.
"""

import errno
import os
from collections.abc import Iterable, Mapping

import pandas as pd

from twinlens.data.readers.source import GROUP, NUMBER, PLACE, Problem, as_text
from twinlens.data.splits import SPLITS, standard_name
from twinlens.errors import InputError


def tidy(rows: pd.DataFrame, caption: str = "caption") -> pd.DataFrame:
    """Text everywhere, white space in captions as single spaces, a place for each row.

    Case and punctuation stay as they are, and so do nullable integers.
    """
    rows = placed(rows)
    texts = {name: _as_texts(rows[name]) for name in rows if name != NUMBER}
    texts[caption] = [" ".join(text.split()) for text in texts[caption]]
    return rows.assign(**texts)


def placed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a place for each: the reader's, else their own number."""
    rows = rows.reset_index(drop=True)
    if PLACE in rows:
        return rows
    return rows.assign(**{PLACE: "row", NUMBER: range(1, len(rows) + 1)})


def _as_texts(cells: pd.Series) -> pd.Series:
    if isinstance(cells.dtype, pd.Int64Dtype):
        return cells
    # Half a million texts need a quarter of a second each to be looked at again.
    is_text = isinstance(cells.dtype, pd.StringDtype) and not cells.hasnans
    return cells if is_text else cells.map(as_text).astype("str")


def drop_empty_captions(rows: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Counts and drops rows without text."""
    empty = rows["caption"] == ""
    problems += report(rows[empty], "empty caption", "picture {image_id}")
    return rows[~empty]


def drop_unknown_pictures(rows: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Counts and drops captions of pictures that the source does not have."""
    unknown = rows["image_path"] == ""
    kind, detail = "caption of an unknown picture", "picture {image_id!r}: {caption}"
    problems += report(rows[unknown], kind, detail)
    return rows[~unknown]


def count_uncaptioned(
    rows: pd.DataFrame, pictures: Mapping[str, str], problems: list[Problem]
) -> None:
    """Counts pictures that are left without any caption."""
    captioned = set(rows["image_id"])
    problems += [
        Problem("picture without captions", where, f"picture {image_id}")
        for image_id, where in pictures.items()
        if image_id not in captioned
    ]


def count_duplicates(rows: pd.DataFrame, problems: list[Problem]) -> None:
    """Counts rows that repeat a picture and caption; they stay.

    Two people may well describe one picture in the same words, and benchmarks count
    five captions a picture, equal or not.
    """
    again = rows.duplicated(["image_id", "caption"])
    detail = "picture {image_id}: {caption}"
    problems += report(rows[again], "duplicate caption row", detail)


def refuse_ambiguous_pictures(rows: pd.DataFrame) -> None:
    """One id is one file, one file one id or one group, one picture in one split.

    Raises:
        InputError: names the picture and both rows.
    """
    remedy = "Ids must be unique: correct one of them."
    _refuse_two(rows, "image_id", "image_path", "Picture id", "two files", remedy)
    if GROUP in rows:
        remedy = "It could be tested on what it was trained on: join the groups."
        _refuse_two(rows, "image_path", GROUP, "Picture", "two groups", remedy)
    else:
        remedy = "It would be its own rival in search: give it one id, or none at all."
        _refuse_two(rows, "image_path", "image_id", "Picture", "two ids", remedy)
    if "split" in rows:
        remedy = "It would be tested on what it was trained on: correct one of them."
        _refuse_two(rows, "image_id", "split", "Picture", "two splits", remedy)


def _refuse_two(
    rows: pd.DataFrame, key: str, value: str, what: str, two: str, remedy: str
) -> None:
    distinct = rows.drop_duplicates([key, value])
    clash = distinct[distinct.duplicated(key, keep=False)]
    if clash.empty:
        return
    pair = clash[clash[key] == clash[key].iloc[0]].to_dict("records")[:2]
    first, second = (f"{row[value]} ({_where(row)})" for row in pair)
    raise InputError(f"{what} {pair[0][key]} has {two}: {first} and {second}. {remedy}")


def apply_splits(rows: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Our names of the source's splits; pictures in none are counted and dropped.

    Raises:
        InputError: a split has a name that is not known.
    """
    names = {name: standard_name(name) for name in rows["split"].unique()}
    rows = rows.assign(split=rows["split"].map(names))
    unknown = rows[~rows["split"].isin(["", *SPLITS])]
    if not unknown.empty:
        row = unknown.iloc[0]
        raise InputError(
            f"{_where(row)}: the split is {row['split']!r}; expected train, val "
            "(or valid, validation, dev) or test. Correct it, or leave the splits out "
            "to have them drawn by picture."
        )
    left_out = rows[rows["split"] == ""].drop_duplicates("image_id")
    problems += report(left_out, "picture in no split", "picture {image_id}")
    return rows[rows["split"] != ""]


def drop_missing_files(rows: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Counts pictures without a file and drops their rows.

    Raises:
        InputError: not a single picture is there.
    """
    pictures = rows.drop_duplicates("image_id")
    files = pictures["image_path"].unique()
    missing = missing_files(files)
    if missing and len(missing) == len(files):
        row = pictures.iloc[0]
        raise InputError(
            f"None of the {len(files):,} picture files exists; the first is "
            f"{row['image_path']} ({_where(row)}). Name the folder that holds the "
            "pictures with `images` (data.images)."
        )
    absent = pictures[pictures["image_path"].isin(missing)]
    problems += report(absent, "picture file is missing", "{image_path}")
    return rows[~rows["image_path"].isin(missing)]


def missing_files(paths: Iterable[str]) -> set[str]:
    """Those of the paths that do not exist; lists each folder once, asks no file."""
    listings: dict[str, set[str]] = {}
    missing = set()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _names_in(folder or ".")
        if name not in listings[folder]:
            missing.add(path)
    return missing


def _names_in(folder: str) -> set[str]:
    """What a folder holds; nothing where there cannot be such a folder.

    Raises:
        InputError: it may not be read.
    """
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # no name of a folder
        return set()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return set()
        raise InputError(
            f"The folder of pictures {folder} cannot be read ({error.strerror}). Give "
            "yourself the right to list it, or name another folder (data.images)."
        ) from error


def places(rows: pd.DataFrame) -> dict[str, str]:
    """Picture id → the first row that names it, in words."""
    first = rows.drop_duplicates("image_id")
    records = first[["image_id", PLACE, NUMBER]].to_dict("records")
    return {row["image_id"]: _where(row) for row in records}


def _where(row: Mapping[str, object] | pd.Series) -> str:
    return f"{row[PLACE]} {row[NUMBER]}"


def report(rows: pd.DataFrame, kind: str, detail: str) -> list[Problem]:
    """A problem for each row; `detail` names columns in braces."""
    records = rows.to_dict("records")
    return [Problem(kind, _where(row), detail.format_map(row)) for row in records]
