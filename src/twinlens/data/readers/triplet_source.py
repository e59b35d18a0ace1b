"""What readers of triplets give back, and what their publishers' files share.

A triplet is a reference picture, a wish (what should change) and the target picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from twinlens.data.readers.source import Problem, read_json
from twinlens.errors import InputError

# Published split → ours. Papers report on val: the targets of test are withheld.
PUBLISHED = {"train": "train", "val": "test"}
PUBLISHED_NOTE = "test is the published val split"
ORIGINAL_SPLIT = "original split"  # the gallery that the publisher names


@dataclass
class TripletSource:
    """What a reader of triplets found, unchecked.

    Args:
        rows: one per triplet: `reference_id`, `target_id`, `wish`, `split` (one of
            `SPLITS`; where none is `val`, it is taken out of train), `category` only
            if the source has categories; attributes, which become text unless they
            are nullable integers (`Int64`); and, to name a row in a problem, `PLACE`
            (`"cap.dress.val.json, entry"`) and `NUMBER` (17).
        pictures: `image_id`, `image_path` (of files that need not exist), and
            `PLACE` and `NUMBER` likewise; a picture may come more than once.
        rule: how the captions of a triplet become its wish, in words.
        keeps_reference: whether a query's reference stays in its gallery.
        galleries: kind → rows of `image_id`, `split`, and `category` where the rows
            have it, as published; none where every picture is in the gallery.
        problems: what only the reader can see, such as malformed entries.
        note: about the protocol, for the words that describe the source.
    """

    rows: pd.DataFrame
    pictures: pd.DataFrame
    rule: str
    keeps_reference: bool
    galleries: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    note: str = ""


def read_published(file: Path, kind: type, layout: str) -> Any:
    """A parsed JSON file of a publisher's layout.

    Args:
        file: the file.
        kind: `list` or `dict`, what it has to hold.
        layout: the files that belong to the source, in words.

    Raises:
        InputError: it is missing, or holds something else.
    """
    if not file.is_file():
        raise InputError(
            f"{file} is missing. The layout is {layout}. Add the file, or give the "
            "folder that holds it (data.path)."
        )
    data = read_json(file)
    if not isinstance(data, kind):
        names = {list: "a list", dict: "an object"}
        found = names.get(type(data), type(data).__name__)
        raise InputError(
            f"{file} holds {found}; expected {names[kind]}. The layout is {layout}. "
            "Is it the published file?"
        )
    return data
