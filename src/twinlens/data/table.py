"""The caption table: what every source becomes, one row per image–caption pair."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from twinlens.data import checks
from twinlens.data.readers import READERS
from twinlens.data.readers.source import GROUP, NUMBER, PLACE, ReaderOptions, Source
from twinlens.data.readers.source import Problem as Problem
from twinlens.data.splits import SPLITS as SPLITS
from twinlens.data.splits import hash_split, keep_images
from twinlens.errors import InputError

COLUMNS = ("image_id", "image_path", "caption", "split")  # then any attributes


@dataclass
class CaptionData:
    """A caption table, and what was wrong with its source.

    Args:
        table: `COLUMNS`, then the source's attributes in its order, all text or
            nullable integers; `split` is one of `SPLITS`; every picture file exists.
        problems: what was counted on the way.
        source: reader and path in words.
    """

    table: pd.DataFrame
    problems: list[Problem]
    source: str


def load(
    reader: str,
    path: str | Path,
    *,
    images: str | Path | None = None,
    captions: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    max_images: int | None = None,
) -> CaptionData:
    """Reads a data set and checks it.

    Args:
        reader: a name in `READERS`.
        path: folder or file of the source.
        images: picture folder, where it is not the usual one.
        captions: captions file, where it has not the usual name.
        columns: for the reader `table`: our column name → the file's.
        split_fractions: of train, val, test; used where the source has no splits.
        max_images: for a quick look: so many pictures, chosen by a hash of their
            ids, proportionally from every split.

    Raises:
        InputError: the source cannot be read, contradicts itself, or has no picture.

    Example:
        ```python
        data = load("flickr8k", "data/flickr8k")
        data.table.groupby("split")["image_id"].nunique()
        problem_counts(data.problems)
        ```
    """
    options = ReaderOptions(images, captions, columns)
    source = reader_named(reader, READERS)(Path(path), options)
    rows, problems = _checked(source, f"{reader} {path}")
    if "split" not in rows:
        keys = rows[GROUP if GROUP in rows else "image_id"]
        names = keys.unique()
        drawn = dict(zip(names, hash_split(names, split_fractions), strict=True))
        rows = rows.assign(split=keys.map(drawn))
    if max_images is not None:
        rows = keep_images(rows, max_images)
    own = (*COLUMNS, PLACE, NUMBER, GROUP)
    attributes = [name for name in rows if name not in own]
    table = rows[[*COLUMNS, *attributes]].reset_index(drop=True)
    return CaptionData(table, problems, f"{reader} reader, {path}")


def read(reader: str, path: str | Path, **options: object) -> pd.DataFrame:
    """The table alone; the options are those of `load`."""
    return load(reader, path, **options).table


def problem_counts(problems: Iterable[Problem]) -> dict[str, int]:
    """How many of each kind, the most frequent first."""
    return dict(Counter(problem.kind for problem in problems).most_common())


def reader_named(name: str, readers: Mapping[str, Callable]) -> Callable:
    """The reader of that name; the error for an unknown one names the nearest."""
    if name in readers:
        return readers[name]
    near = difflib.get_close_matches(name, readers, 1)
    nearest = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"There is no reader {name!r}; there are {', '.join(readers)}.{nearest}"
    )


def _checked(source: Source, name: str) -> tuple[pd.DataFrame, list[Problem]]:
    problems = list(source.problems)
    rows = checks.tidy(source.rows)
    rows = checks.drop_unknown_pictures(rows, problems)
    pictures = {**checks.places(rows), **source.pictures}
    rows = checks.drop_empty_captions(rows, problems)
    checks.count_uncaptioned(rows, pictures, problems)
    if "split" in rows:
        rows = checks.apply_splits(rows, problems)
    checks.refuse_ambiguous_pictures(rows)
    if not rows.empty:
        rows = checks.drop_missing_files(rows, problems)
    checks.count_duplicates(rows, problems)
    if rows.empty:
        raise InputError(_nothing_left(problems, name))
    return rows, problems


def _nothing_left(problems: list[Problem], name: str) -> str:
    if not problems:
        return f"{name} has no captions at all. Is it the right file?"
    counts = ", ".join(
        f"{n:,} × {kind}" for kind, n in problem_counts(problems).items()
    )
    first = problems[0]
    return (
        f"No captioned picture is left of {name}: {counts}. The first is in "
        f"{first.where}: {first.kind} ({first.detail}). Correct the source."
    )
