"""CIRR: composed retrieval on the everyday pictures of NLVR2.

Source: https://github.com/Cuberick-Orion/CIRR; Liu et al. 2021,
https://arxiv.org/abs/2108.04024.
"""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from twinlens.data.readers.source import (
    MALFORMED,
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    as_text,
    existing,
)
from twinlens.data.readers.triplet_source import (
    ORIGINAL_SPLIT,
    PUBLISHED,
    PUBLISHED_NOTE,
    TripletSource,
    read_published,
)

LAYOUT = (
    "captions/cap.rc2.{split}.json (a list of `reference`, `target_hard`, `caption` "
    "and `img_set`), image_splits/split.rc2.{split}.json (an object: id → path of the "
    "picture below img_raw or the folder itself), of train and val"
)
RULE = "the one caption"


def cirr(path: Path, options: ReaderOptions) -> TripletSource:
    """Reads triplets; the wish is their caption, the target their `target_hard`.

    The published val split is our test; published test has no targets and is not
    read.

    Args:
        path: the root folder.
        options: `images`: the folder that holds `train` and `dev`, usually `img_raw`
            or the root.

    Returns:
        Rows with the attribute `members`: the ids of the six pictures that look
        alike, among them reference and target, separated by spaces.

    Raises:
        InputError: a file of the layout is missing or holds something else.
    """
    options.accept("cirr", "images")
    folder = options.image_folder(existing(path), ["img_raw", "."])
    problems: list[Problem] = []
    rows, listed = [], []
    for published, split in PUBLISHED.items():
        captions = path / "captions" / f"cap.rc2.{published}.json"
        paths = path / "image_splits" / f"split.rc2.{published}.json"
        rows += [(*row, split) for row in _triplets(captions, problems)]
        listed += [(*row, split) for row in _pictures(paths, folder, problems)]
    names = ["reference_id", "target_id", "wish", "members", PLACE, NUMBER, "split"]
    triplets = pd.DataFrame(rows, columns=names)
    names = ["image_id", "image_path", PLACE, NUMBER, "split"]
    pictures = pd.DataFrame(listed, columns=names)
    return TripletSource(
        triplets,
        pictures.drop(columns="split"),
        RULE,
        keeps_reference=False,
        galleries={ORIGINAL_SPLIT: pictures[["image_id", "split"]]},
        problems=problems,
        note=PUBLISHED_NOTE,
    )


def _triplets(file: Path, problems: list[Problem]) -> list[tuple]:
    """Reference, target, wish, members, place and number of each usable entry."""
    place, rows = f"{file.name}, entry", []
    for number, entry in enumerate(read_published(file, list, LAYOUT), 1):
        if not isinstance(entry, dict):
            detail = "expected `reference`, `target_hard` and `caption`"
            problems.append(Problem(MALFORMED, f"{place} {number}", detail))
            continue
        keys = ("reference", "target_hard", "caption")
        texts = (as_text(entry.get(key)) for key in keys)
        rows.append((*texts, _members(entry.get("img_set")), place, number))
    return rows


def _members(img_set: Any) -> str:
    members = img_set.get("members") if isinstance(img_set, dict) else None
    return " ".join(map(as_text, members)) if isinstance(members, list) else ""


def _pictures(file: Path, folder: Path, problems: list[Problem]) -> list[tuple]:
    """Id, path, place and number of each picture; paths are published as `./dev/…`."""
    place, rows = f"{file.name}, entry", []
    entries = read_published(file, dict, LAYOUT).items()
    for number, (name, below) in enumerate(entries, 1):
        if isinstance(below, str) and below and name:
            image_path = os.path.normpath(folder / as_text(below))
            rows.append((as_text(name), image_path, place, number))
        else:
            detail = f"expected a path for the picture {name!r}"
            problems.append(Problem(MALFORMED, f"{place} {number}", detail))
    return rows
