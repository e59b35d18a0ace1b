"""Flickr8k and Flickr30k: a token or csv file of captions, and lists of the splits.

Sources: Hodosh et al. 2013 (Flickr8k), Young et al. 2014 (Flickr30k), and the csv
forms that are passed around since.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from twinlens.data.readers.guess import TOKEN_LINE, advice, is_image
from twinlens.data.readers.source import (
    MALFORMED,
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    Source,
    read_delimited,
    read_text,
)
from twinlens.errors import InputError

Line = tuple[int, str, str]  # row, picture (empty: malformed), caption or raw line


@dataclass(frozen=True)
class Layout:
    """Usual names of one data set's files."""

    reader: str
    captions: tuple[str, ...]
    images: tuple[str, ...]
    lists: dict[str, str]  # split → file


FLICKR8K = Layout(
    "flickr8k",
    ("Flickr8k.token.txt", "captions.txt"),
    ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset"),  # the publisher's spelling too
    {
        "train": "Flickr_8k.trainImages.txt",
        "val": "Flickr_8k.devImages.txt",
        "test": "Flickr_8k.testImages.txt",
    },
)
FLICKR30K = Layout(
    "flickr30k",
    ("results_20130124.token", "results.csv"),
    ("flickr30k-images", "flickr30k_images"),
    {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
)


def flickr8k(path: Path, options: ReaderOptions) -> Source:
    """Reads Flickr8k: `Flickr8k.token.txt` or `captions.txt`, lists, `Images/`."""
    return _read(path, options, FLICKR8K)


def flickr30k(path: Path, options: ReaderOptions) -> Source:
    """Reads Flickr30k: `results_20130124.token` or `results.csv`, lists, pictures."""
    return _read(path, options, FLICKR30K)


def _read(path: Path, options: ReaderOptions, layout: Layout) -> Source:
    """Rows whose id is the picture's file name; `split` if there is any list."""
    options.accept(layout.reader, "images", "captions")
    file = options.captions_file(path, layout.captions, layout.reader)
    root = path if path.is_dir() else file.parent
    folder = options.image_folder(root, layout.images)
    place = f"{file.name}, row"
    lines = list(_lines(file, layout.reader))
    problems = [
        Problem(MALFORMED, f"{place} {number}", repr(text))
        for number, name, text in lines
        if not name
    ]
    rows = pd.DataFrame(
        [(name, text, number) for number, name, text in lines if name],
        columns=["image_id", "caption", NUMBER],
    )
    prefix = os.path.join(folder, "")
    rows = rows.assign(image_path=prefix + rows["image_id"], **{PLACE: place})
    # In byte order, because a folder's own order differs between machines.
    names = sorted(name for name in os.listdir(folder) if is_image(name))
    pictures = {name: f"folder {folder}" for name in names}
    lists = _split_lists(root, layout)
    if lists is not None:
        splits = {name: split for name, (split, _) in lists.items()}
        pictures |= {name: where for name, (_, where) in lists.items()}
        rows["split"] = rows["image_id"].map(splits).fillna("")
    return Source(rows, problems, pictures)


def _lines(file: Path, reader: str) -> Iterator[Line]:
    """The file's rows, whichever of the three forms it has."""
    text = read_text(file)
    first = text.split("\n", 1)[0]
    header = first.replace(" ", "").strip().lower()
    if header == "image,caption":
        return _comma_lines(file)
    if header == "image_name|comment_number|comment":
        return _pipe_lines(text)
    if any(TOKEN_LINE.match(line) for line in text.split("\n", 20)[:20]):
        return _token_lines(text)
    raise InputError(
        f"{file}, row 1: {first[:60]!r} is no form of Flickr captions. "
        "Expected `name.jpg#0<TAB>caption`, or a header `image,caption` or "
        f"`image_name| comment_number| comment`.{advice(file, reader)}"
    )


def _token_lines(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        key, tab, caption = line.partition("\t")
        name, _, caption_number = key.rpartition("#")
        if tab and caption_number.isdecimal():
            yield number, name.strip(), caption
        elif line.strip():
            yield number, "", line


def _pipe_lines(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n")[1:], 2):
        parts = line.split("|", 2)  # a caption may hold a bar itself
        if len(parts) == 3 and parts[1].strip().isdecimal():
            yield number, parts[0].strip(), parts[2]
        elif line.strip():
            yield number, "", line


def _comma_lines(file: Path) -> Iterator[Line]:
    rows = read_delimited(file, ",")
    next(rows)  # the header
    for number, row in rows:
        if len(row) == 2:
            yield number, row[0].strip(), row[1]
        else:
            yield number, "", ",".join(row)


def _split_lists(root: Path, layout: Layout) -> dict[str, tuple[str, str]] | None:
    """Picture → split and where it is listed; None where there is no list."""
    present = {s: root / f for s, f in layout.lists.items() if (root / f).is_file()}
    listed: dict[str, tuple[str, str]] = {}
    for split, file in present.items():
        for number, line in enumerate(read_text(file).split("\n"), 1):
            name, where = _with_suffix(line.strip()), f"{file.name}, row {number}"
            other, first = listed.get(name, (split, where))
            if other != split:
                raise InputError(
                    f"Picture {name} is in two splits: {other} ({first}) and {split} "
                    f"({where}). Remove it from one of the lists."
                )
            if name:
                listed[name] = split, first
    return listed if present else None


def _with_suffix(name: str) -> str:
    """Some lists of Flickr30k leave out `.jpg`."""
    return f"{name}.jpg" if name.isdecimal() else name
