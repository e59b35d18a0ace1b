"""Shopee's price match: postings in `train.csv`, pictures in `train_images/`.

Source: https://www.kaggle.com/competitions/shopee-product-matching.
"""

import os
import re
from pathlib import Path

import pandas as pd

from twinlens.data.readers.source import (
    GROUP,
    MALFORMED,
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    Source,
    rows_below,
)
from twinlens.errors import InputError

COLUMNS = ("posting_id", "image", "image_phash", "title", "label_group")
_LITERAL = re.compile(r"""b(["'])(.*)\1""")
# What Python writes for bytes: ASCII, and of backslashes only these.
_ESCAPED = re.compile(r"""(?:[ -\[\]-~]|\\(?:x[0-9a-f]{2}|[nrt\\'"]))*""")


def shopee(path: Path, options: ReaderOptions) -> Source:
    """Reads postings, each with its picture and its title as the caption.

    A posting is an item of its own even where its picture file is another's, too.
    Splits are drawn from a hash of the label group, so that all postings of a product
    are in one split; groups that share a picture file count as one, under the
    smallest of their names.

    Args:
        path: the root folder, or the csv file.
        options: `images`: the picture folder, usually `train_images` or the root.
            `captions`: the csv file.

    Returns:
        Rows whose id is the posting's, with the attributes `image_phash` and
        `label_group`. Titles are as sellers wrote them: the published file holds
        some as Python's text of bytes, such as `caf\\xc3\\xa9` for café.
    """
    options.accept("shopee", "images", "captions")
    file = options.captions_file(path, ["train.csv"], "shopee")
    root = path if path.is_dir() else file.parent
    folder = options.image_folder(root, ["train_images", "."])
    cells, problems = _cells(file)
    prefix = os.path.join(folder, "")
    rows = pd.DataFrame(
        {
            "image_id": cells["posting_id"],
            "image_path": prefix + cells["image"],
            "caption": cells["title"].map(decoded),
            "image_phash": cells["image_phash"],
            "label_group": cells["label_group"],
            GROUP: _joined(cells["label_group"], cells["image"]),
            PLACE: f"{file.name}, row",
            NUMBER: cells["number"],
        }
    )
    return Source(rows, problems)


def decoded(title: str) -> str:
    """A title that is Python's text of UTF-8 bytes as plain text; others as they are.

    Example:
        ```python
        decoded(r"caf\\xc3\\xa9")  # "café"
        decoded('b"L\\'Oreal"')  # "L'Oreal"
        ```
    """
    literal = _LITERAL.fullmatch(title)
    text = literal[2] if literal else title
    if "\\" not in text or not _ESCAPED.fullmatch(text):
        return text
    try:
        return text.encode().decode("unicode_escape").encode("latin-1").decode()
    except UnicodeDecodeError:  # cut inside a character
        return text


def _cells(file: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The file's cells as text, and `number`: the row each stands in."""
    rows, problems = [], []
    known: dict[str, int] = {}
    for number, row in rows_below(file, COLUMNS, "shopee"):
        cells = dict(zip(COLUMNS, map(str.strip, row), strict=False))
        empty = [name for name in COLUMNS if name != "title" and not cells.get(name)]
        if len(row) != len(COLUMNS) or empty:
            detail = f"{len(row)} cells of {len(COLUMNS)}"
            detail += f", empty: {', '.join(empty)}" if empty else ""
            where = f"{file.name}, row {number}"
            problems.append(Problem(MALFORMED, where, detail))
            continue
        posting = cells["posting_id"]
        if posting in known:
            raise InputError(
                f"{file}: posting_id {posting} is in row {known[posting]} and in row "
                f"{number}. Ids must be unique: correct one of them."
            )
        known[posting] = number
        rows.append((*cells.values(), number))
    return pd.DataFrame(rows, columns=[*COLUMNS, "number"], dtype=object), problems


def _joined(groups: pd.Series, files: pd.Series) -> pd.Series:
    """For each row the smallest group that its own hangs together with by files."""
    codes, names = pd.factorize(groups, sort=True)  # numbers are a hundred times faster
    found, before = pd.Series(codes), None
    while before is None or not found.equals(before):
        before = found
        for link in (files, groups):
            found = found.groupby(link, sort=False).transform("min")
    return pd.Series(names[found])
