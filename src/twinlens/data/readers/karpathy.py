"""Karpathy's splits: one JSON with captions and splits of Flickr8k, Flickr30k or COCO.

Source: https://cs.stanford.edu/people/karpathy/deepimagesent/
"""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from twinlens.data.readers.guess import json_kind, sentence
from twinlens.data.readers.source import (
    MALFORMED,
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    Source,
    as_text,
    existing,
    read_json,
)
from twinlens.errors import InputError

_FOLDERS = (
    "Images",
    "images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr30k-images",
    "flickr30k_images",
)


def karpathy(path: Path, options: ReaderOptions) -> Source:
    """Reads a Karpathy split file such as `dataset_flickr8k.json`.

    Args:
        path: the JSON file, or the folder with one `dataset_*.json`.
        options: `images`: the picture folder; for COCO the one that holds
            `train2014/`. `captions`: the JSON file in the folder.

    Returns:
        Rows whose ids are those of the other readers, COCO's id or the file's name,
        so that cached features serve both. `restval` becomes `train`.
    """
    options.accept("karpathy", "images", "captions")
    file = _file(path, options)
    data = read_json(file)
    kind = json_kind(data)
    if kind != "karpathy":
        raise InputError(
            f"{file} is not a Karpathy split file: expected an object with the list "
            f"`images`, each with `sentences`.{sentence(kind, 'karpathy')}"
        )
    problems: list[Problem] = []
    images = _usable(file, data["images"], problems)
    folder = _folder(file.parent, {_subfolder(image) for _, image in images}, options)
    pictures, rows = {}, []
    for number, image in images:
        where = f"{file.name}, image {number}"
        image_id = as_text(image.get("cocoid")) or image["filename"]
        image_path = os.path.join(folder, _subfolder(image), image["filename"])
        pictures[image_id] = where
        split = as_text(image.get("split"))
        for caption in _sentences(image, where, problems):
            rows.append((image_id, image_path, caption, split, number))
    names = ["image_id", "image_path", "caption", "split", NUMBER]
    frame = pd.DataFrame(rows, columns=names)
    return Source(frame.assign(**{PLACE: f"{file.name}, image"}), problems, pictures)


def _file(path: Path, options: ReaderOptions) -> Path:
    found = sorted(path.glob("dataset_*.json")) if existing(path).is_dir() else []
    if len(found) > 1 and not options.captions:
        raise InputError(
            f"{path} has several split files: {', '.join(f.name for f in found)}. "
            "Choose one with `captions` (data.captions)."
        )
    usual = [file.name for file in found] or ["dataset_*.json"]
    return options.captions_file(path, usual, "karpathy")


def _usable(
    file: Path, images: list[Any], problems: list[Problem]
) -> list[tuple[int, dict[str, Any]]]:
    """Numbered entries that name a file and have a list of sentences."""
    usable = []
    for number, image in enumerate(images, 1):
        entry = image if isinstance(image, dict) else {}
        if isinstance(entry.get("sentences"), list) and entry.get("filename"):
            usable.append((number, entry | {"filename": as_text(entry["filename"])}))
        else:
            where = f"{file.name}, image {number}"
            detail = "expected `filename` and the list `sentences`"
            problems.append(Problem(MALFORMED, where, detail))
    return usable


def _sentences(image: dict[str, Any], where: str, problems: list[Problem]) -> list[str]:
    captions = []
    for number, entry in enumerate(image["sentences"], 1):
        if isinstance(entry, dict) and "raw" in entry:
            captions.append(as_text(entry["raw"]))
        else:
            detail = f"sentence {number}: expected `raw`"
            problems.append(Problem(MALFORMED, where, detail))
    return captions


def _subfolder(image: dict[str, Any]) -> str:
    return as_text(image.get("filepath"))


def _folder(root: Path, subfolders: set[str], options: ReaderOptions) -> Path:
    subfolders = subfolders - {""}
    if options.images or not subfolders:
        return options.image_folder(root, _FOLDERS)
    for folder in (root, root / "images", root.parent, root.parent / "images"):
        if any((folder / name).is_dir() for name in subfolders):
            return folder
    raise InputError(
        f"No picture folder beside {root}: looked for {', '.join(sorted(subfolders))} "
        "there, in its `images` and one folder above. Put the pictures there, or name "
        "the folder that holds them with `images` (data.images)."
    )
