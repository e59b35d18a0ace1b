"""What is wrong with triplets of any source: counted, and the triplet left out.

Each check takes the rows and the list of problems, adds what it finds to the list,
and gives back the rows that are left.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from twinlens.data.checks import missing_files, report
from twinlens.data.readers.source import NUMBER, PLACE, Problem

MISSING = "missing picture"
_PARTS = {"reference_id": "reference", "target_id": "target", "wish": "wish"}
_GALLERY = ["image_id", "split", "category"]


def drop_empty(rows: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Counts and drops triplets without reference, target or wish."""
    detail = "reference {reference_id!r}, target {target_id!r}, wish {wish!r}"
    for column, part in _PARTS.items():
        empty = rows[column] == ""
        problems += report(rows[empty], f"empty {part}", detail)
        rows = rows[~empty]
    return rows


def drop_unchanged(rows: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Counts and drops triplets whose target is their reference."""
    same = rows["target_id"] == rows["reference_id"]
    detail = "picture {target_id}: {wish}"
    problems += report(rows[same], "target is the reference", detail)
    return rows[~same]


def drop_outside(
    rows: pd.DataFrame, galleries: Mapping[str, pd.DataFrame], problems: list[Problem]
) -> pd.DataFrame:
    """Counts and drops triplets whose target is not in their own galleries."""
    for kind, gallery in galleries.items():
        own = pd.MultiIndex.from_frame(rows[["target_id", "split", "category"]])
        inside = own.isin(pd.MultiIndex.from_frame(gallery[_GALLERY]))
        detail = f"target {{target_id}} is not in the gallery {kind!r} of "
        detail += "{split}, category {category}"
        problems += report(rows[~inside], "target outside its gallery", detail)
        rows = rows[inside]
    return rows


def drop_missing_pictures(
    pictures: pd.DataFrame, problems: list[Problem]
) -> pd.DataFrame:
    """Counts and drops pictures without a file."""
    paths = pictures["image_path"]
    absent = among(paths, pd.Series(list(missing_files(paths)), dtype="str"))
    once = pictures[absent].drop_duplicates("image_id")
    problems += report(once, MISSING, "picture {image_id}: {image_path}")
    return pictures[~absent]


def drop_without_picture(
    rows: pd.DataFrame, pictures: pd.DataFrame, problems: list[Problem]
) -> pd.DataFrame:
    """Counts and drops triplets whose reference or target has no file."""
    for column in ("reference_id", "target_id"):
        has = among(rows[column], pictures["image_id"])
        detail = f"{_PARTS[column]} {{{column}}}"
        problems += report(rows[~has], "triplet of a missing picture", detail)
        rows = rows[has]
    return rows


def among(texts: pd.Series, known: pd.Series) -> np.ndarray:
    """Whether each text is a known one: `isin`, 25 times as fast for 60,000 of them."""
    return pd.Index(known.unique()).get_indexer(texts) >= 0


def count_unnamed_pictures(
    rows: pd.DataFrame, pictures: pd.DataFrame, problems: list[Problem]
) -> None:
    """Counts pictures of triplets for which the source names no file at all."""
    named = [
        rows[[column, PLACE, NUMBER]].set_axis(["image_id", PLACE, NUMBER], axis=1)
        for column in ("reference_id", "target_id")
    ]
    once = pd.concat(named).drop_duplicates("image_id")
    unknown = once[~among(once["image_id"], pictures["image_id"])]
    problems += report(unknown, MISSING, "picture {image_id}: no file is named for it")
