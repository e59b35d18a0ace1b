"""Which reader would fit: the advice in the error of the one that did not."""

import re
from pathlib import Path
from typing import Any

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
TOKEN_LINE = re.compile(r"[^\t\n]+#\d+\t", re.ASCII)  # name.jpg#0<TAB>caption
_HEAD_BYTES = 65_536  # enough for the first pictures of a JSON file
_FOLDER_SIGNS = (  # pattern inside the folder, reader; the surest first
    ("annotations/captions_*.json", "coco"),
    ("dataset_*.json", "karpathy"),
    ("Flickr8k.token.txt", "flickr8k"),
    ("results_20130124.token", "flickr30k"),
    ("results.csv", "flickr30k"),
    ("captions.txt", "flickr8k"),
    ("styles.csv", "fashion"),
    ("train_images", "shopee"),
)


def advice(path: Path, tried: str) -> str:
    """A sentence that names the fitting reader, or nothing if that cannot be told."""
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    return sentence(found, tried)


def sentence(reader: str, tried: str) -> str:
    """The advice in words; empty for no reader, or for the one that was tried."""
    return f" The reader {reader!r} would fit." if reader not in ("", tried) else ""


def json_kind(data: Any) -> str:
    """Reader of a parsed JSON file: `"coco"`, `"karpathy"` or nothing."""
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list):
        return ""
    if isinstance(data.get("annotations"), list):
        return "coco"
    nested = any(isinstance(image, dict) and "sentences" in image for image in images)
    return "karpathy" if nested else ""


def _of_folder(folder: Path) -> str:
    for pattern, reader in _FOLDER_SIGNS:
        if any(folder.glob(pattern)):
            return reader
    stems = {file.stem for file in folder.glob("*.txt")}
    pictures = (file for file in folder.iterdir() if is_image(file.name))
    return "folder" if any(picture.stem in stems for picture in pictures) else ""


def _of_file(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES).decode("utf-8", "replace")
    first = head.removeprefix("\ufeff").split("\n", 1)[0].replace(" ", "").strip()
    if TOKEN_LINE.match(head):
        return "flickr8k"
    if first.startswith("image_name|"):
        return "flickr30k"
    if head.lstrip().startswith("{") and '"sentences"' in head:
        return "karpathy"
    if head.lstrip().startswith("{") and '"file_name"' in head:
        return "coco"
    if first == "image,caption":
        return "flickr8k"
    if first.startswith("id,gender,masterCategory,"):
        return "fashion"
    if first.startswith("posting_id,"):
        return "shopee"
    return "table" if file.suffix.lower() in TABLE_SUFFIXES else ""


def is_image(name: str) -> bool:
    """Whether a file of this name is a picture."""
    return name.lower().endswith(IMAGE_SUFFIXES)
