"""FashionIQ: products of three categories, two captions for each pair of pictures.

Source: https://github.com/XiaoxiaoGuo/fashion-iq; Wu et al. 2021,
https://arxiv.org/abs/1905.12794.
"""

import os
from collections.abc import Iterable
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

CATEGORIES = ("dress", "shirt", "toptee")
LAYOUT = (
    "captions/cap.{category}.{split}.json (a list of `target`, `candidate` and "
    "`captions`), image_splits/split.{category}.{split}.json (a list of ids) and "
    "images/{id}.jpg, png or jpeg, of dress, shirt and toptee, train and val"
)
RULE = "caption 1 and caption 2"
_SUFFIXES = (".jpg", ".png", ".jpeg")  # the first that there is


def fashioniq(path: Path, options: ReaderOptions) -> TripletSource:
    """Reads the triplets and galleries of all three categories.

    A wish is the two captions of a pair, joined by "and"; an empty one is left out.
    The published val split is our test; published test has no targets and is not
    read.

    Args:
        path: the root folder.
        options: `images`: the picture folder, usually `images`. It may be missing:
            then all pictures are.

    Raises:
        InputError: a file of the layout is missing or holds something else.
    """
    options.accept("fashioniq", "images")
    root = existing(path)
    problems: list[Problem] = []
    rows, listed = [], []
    for category in CATEGORIES:
        for published, split in PUBLISHED.items():
            name = f"{category}.{published}.json"
            captions = root / "captions" / f"cap.{name}"
            ids = root / "image_splits" / f"split.{name}"
            for row in _triplets(captions, problems):
                rows.append((*row, split, category))
            for row in _ids(ids, problems):
                listed.append((*row, split, category))
    names = ["reference_id", "target_id", "wish", PLACE, NUMBER, "split", "category"]
    triplets = pd.DataFrame(rows, columns=names)
    names = ["image_id", PLACE, NUMBER, "split", "category"]
    gallery = pd.DataFrame(listed, columns=names)
    return TripletSource(
        triplets,
        _pictures(triplets, gallery, _folder(root, options)),
        RULE,
        keeps_reference=True,
        galleries={ORIGINAL_SPLIT: gallery[["image_id", "split", "category"]]},
        problems=problems,
        note=PUBLISHED_NOTE,
    )


def joined(captions: Iterable[Any]) -> str:
    """The wish that captions make; empty where all of them are.

    Example:
        ```python
        joined(["is red ", "has no sleeves"])  # "is red and has no sleeves"
        joined(["", "is blue"])  # "is blue"
        ```
    """
    texts = [as_text(caption).strip() for caption in captions]
    return " and ".join(text for text in texts if text)


def _triplets(file: Path, problems: list[Problem]) -> list[tuple]:
    """Reference, target, wish, place and number of each usable entry."""
    place, rows = f"{file.name}, entry", []
    for number, entry in enumerate(read_published(file, list, LAYOUT), 1):
        captions = entry.get("captions", []) if isinstance(entry, dict) else None
        if not isinstance(captions, list):
            detail = "expected `target`, `candidate` and the list `captions`"
            problems.append(Problem(MALFORMED, f"{place} {number}", detail))
            continue
        ids = (as_text(entry.get(key)) for key in ("candidate", "target"))
        rows.append((*ids, joined(captions), place, number))
    return rows


def _ids(file: Path, problems: list[Problem]) -> list[tuple]:
    """Id, place and number of each picture of a gallery."""
    place, rows = f"{file.name}, entry", []
    for number, entry in enumerate(read_published(file, list, LAYOUT), 1):
        if isinstance(entry, str) and entry:
            rows.append((as_text(entry), place, number))
        else:
            detail = "expected the id of a picture"
            problems.append(Problem(MALFORMED, f"{place} {number}", detail))
    return rows


def _folder(root: Path, options: ReaderOptions) -> Path:
    return options.image_folder(root, []) if options.images else root / "images"


def _pictures(
    triplets: pd.DataFrame, gallery: pd.DataFrame, folder: Path
) -> pd.DataFrame:
    """Every picture that a file names, with its path whether or not it is there."""
    named = [
        gallery[["image_id", PLACE, NUMBER]],
        *(
            triplets[[column, PLACE, NUMBER]].rename(columns={column: "image_id"})
            for column in ("reference_id", "target_id")
        ),
    ]
    pictures = pd.concat(named).drop_duplicates("image_id")
    pictures = pictures[pictures["image_id"] != ""]
    there = os.listdir(folder) if folder.is_dir() else []
    files: dict[str, str] = {}
    for suffix in reversed(_SUFFIXES):
        found = (name for name in there if name.endswith(suffix))
        files |= {name.removesuffix(suffix): name for name in found}
    names = [files.get(each, each + _SUFFIXES[0]) for each in pictures["image_id"]]
    return pictures.assign(image_path=[os.path.join(folder, name) for name in names])
