"""A folder of pictures, each with a `.txt` of the same name beside it."""

import os
from pathlib import Path

import pandas as pd

from twinlens.data.readers.guess import is_image
from twinlens.data.readers.source import (
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    Source,
    as_text,
    existing,
    read_text,
)
from twinlens.data.splits import SPLITS, standard_name
from twinlens.errors import InputError
from twinlens.progress import Progress


def folder(path: Path, options: ReaderOptions) -> Source:
    """Reads pictures and their text files, one caption a line, sub-folders included.

    Args:
        path: the folder. Sub-folders `train`, `val`, `test` are splits, if there
            are any.
        options: none of them is used.

    Returns:
        Rows whose id is the picture's path inside the folder.
    """
    options.accept("folder")
    if not existing(path).is_dir():
        raise InputError(f"{path} is a file; the reader 'folder' expects a folder.")
    images, texts = _files(path)
    if not images:
        raise InputError(
            f"{path} holds no picture (.jpg, .png, .gif, .bmp, .webp). Give the folder "
            "of pictures with a .txt of the same name beside each (data.path)."
        )
    rows, pictures = [], {}
    with Progress("reading captions", total=len(images), unit="pictures") as progress:
        for image in images:
            pictures[Path(image).as_posix()] = os.path.join(path, image)
            text = str(Path(image).with_suffix(".txt"))
            if text in texts:
                rows += _captions(path, image, text)
            progress.advance()
    stray = texts - {str(Path(image).with_suffix(".txt")) for image in images}
    problems = [
        Problem("caption of an unknown picture", file, "no picture of this name")
        for file in sorted(stray)
    ]
    names = ["image_id", "image_path", "caption", PLACE, NUMBER]
    frame = pd.DataFrame(rows, columns=names)
    splits = frame["image_id"].map(_split)
    has_splits = any(_split(image) for image in images)
    return Source(
        frame.assign(split=splits) if has_splits else frame, problems, pictures
    )


def _files(root: Path) -> tuple[list[str], set[str]]:
    """Pictures, in order, and text files, as paths inside the folder."""
    names = []
    for place, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        inside = os.path.relpath(place, root)
        names += [os.path.normpath(os.path.join(inside, name)) for name in files]
    images = sorted(name for name in names if is_image(name))
    texts = {name for name in names if name.endswith(".txt")}
    for name in (*images, *texts):
        if as_text(name) != name:
            raise InputError(f"{root}: the file name {name!r} is not UTF-8. Rename it.")
    return images, texts


def _captions(root: Path, image: str, text: str) -> list[tuple]:
    lines = read_text(root / text).rstrip("\n").split("\n")
    path, place = os.path.join(root, image), f"{text}, row"
    image_id = Path(image).as_posix()
    return [(image_id, path, line, place, n) for n, line in enumerate(lines, 1)]


def _split(image: str) -> str:
    """The split that the first sub-folder names, or nothing."""
    name = standard_name(Path(image).parts[0])
    return name if name in SPLITS else ""
