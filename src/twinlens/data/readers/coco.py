"""COCO captions: `annotations/captions_train2017.json`, pictures in `train2017/`.

Format: https://cocodataset.org/#format-data, section "Image Captioning".
"""

import os
import re
from pathlib import Path
from typing import Any

import pandas as pd

from twinlens.data.readers.guess import advice, json_kind, sentence
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

_USUAL = "annotations/captions_*.json"
_NAME = re.compile(r"captions_(train|val)(\d{4})")


def coco(path: Path, options: ReaderOptions) -> Source:
    """Reads COCO captions in the 2014 and 2017 layouts.

    Args:
        path: the root folder, or one JSON file.
        options: `images`: the picture folder, or the folder of `train2017/` and
            `val2017/`. `captions`: a JSON file or a pattern such as
            `annotations/captions_*2017.json`.

    Returns:
        Rows with the picture's COCO id. `split` is that of the file's name, and is
        absent if there is only one file.
    """
    options.accept("coco", "images", "captions")
    files = _files(path, options)
    pictures: dict[str, tuple[str, str]] = {}
    parts, problems = [], []
    for file in files:
        data = _checked(file)
        own = _pictures(file, data, _folder(file, options), problems)
        _refuse_two_files(pictures, own)
        pictures |= own
        rows = _captions(file, data, own, problems)
        parts.append(rows if len(files) == 1 else rows.assign(split=_split(file)))
    where = {image_id: place for image_id, (_, place) in pictures.items()}
    return Source(pd.concat(parts, ignore_index=True), problems, where)


def _files(path: Path, options: ReaderOptions) -> list[Path]:
    if existing(path).is_file():
        return [path]
    given = str(options.captions or _USUAL)
    whole = [file for file in (path / given, Path(given)) if file.is_file()]
    pattern = "" if Path(given).is_absolute() else given
    files = whole[:1] or (sorted(path.glob(pattern)) if pattern else [])
    if not files:
        raise InputError(
            f"No captions file in {path}: looked for {given}. Give the folder that "
            "holds `annotations/`, or name the file with `captions` (data.captions)."
            + advice(path, "coco")
        )
    names = [_NAME.search(file.name) for file in files]
    splits = [name[1] if name else "" for name in names]
    if len(files) > 1 and ("" in splits or len(set(splits)) < len(splits)):
        raise InputError(
            f"{path} has several captions files that are not one train and one val: "
            f"{', '.join(file.name for file in files)}. Choose with `captions` "
            "(data.captions), for example annotations/captions_*2017.json."
        )
    return files


def _split(file: Path) -> str:
    name = _NAME.search(file.name)
    return name[1] if name else ""


def _folder(file: Path, options: ReaderOptions) -> Path:
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    name = _NAME.search(file.name)
    pictures = name[1] + name[2] if name else "images"
    if not options.images:
        return options.image_folder(root, [pictures, f"images/{pictures}"])
    given = options.image_folder(root, [])
    return given / pictures if (given / pictures).is_dir() else given


def _checked(file: Path) -> dict[str, Any]:
    data = read_json(file)
    kind = json_kind(data)
    if kind != "coco":
        raise InputError(
            f"{file} is not COCO captions: expected an object with the lists `images` "
            f"and `annotations`.{sentence(kind, 'coco')}"
        )
    entries = data["annotations"]
    if entries and not any("caption" in entry for entry in _objects(entries)):
        raise InputError(
            f"{file} has annotations but no captions. Give captions_*.json, not "
            "instances_*.json or person_keypoints_*.json."
        )
    return data


def _objects(entries: list[Any]) -> list[dict[str, Any]]:
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def _pictures(
    file: Path, data: dict[str, Any], folder: Path, problems: list[Problem]
) -> dict[str, tuple[str, str]]:
    """Picture id → its path and where it is named."""
    pictures: dict[str, tuple[str, str]] = {}
    for number, entry in enumerate(_objects(data["images"]), 1):
        where = f"{file.name}, image {number}"
        image_id, name = as_text(entry.get("id")), as_text(entry.get("file_name"))
        if not image_id or not name:
            detail = "expected `id` and `file_name`"
            problems.append(Problem(MALFORMED, where, detail))
            continue
        own = {image_id: (os.path.join(folder, name), where)}
        _refuse_two_files(pictures, own)
        pictures |= own
    return pictures


def _refuse_two_files(
    known: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]
) -> None:
    for image_id in new.keys() & known.keys():
        (first, where_first), (second, where_second) = known[image_id], new[image_id]
        if first != second:
            raise InputError(
                f"Picture id {image_id} is given to two files: {first} "
                f"({where_first}) and {second} ({where_second}). Ids must be unique: "
                "correct one of them."
            )


def _captions(
    file: Path,
    data: dict[str, Any],
    pictures: dict[str, tuple[str, str]],
    problems: list[Problem],
) -> pd.DataFrame:
    unknown = ("", "")
    rows = []
    for number, entry in enumerate(_objects(data["annotations"]), 1):
        if "image_id" not in entry or "caption" not in entry:
            where = f"{file.name}, annotation {number}"
            detail = "expected `image_id` and `caption`"
            problems.append(Problem(MALFORMED, where, detail))
            continue
        image_id = as_text(entry["image_id"])
        image_path = pictures.get(image_id, unknown)[0]
        rows.append((image_id, image_path, as_text(entry["caption"]), number))
    frame = pd.DataFrame(rows, columns=["image_id", "image_path", "caption", NUMBER])
    return frame.assign(**{PLACE: f"{file.name}, annotation"})
