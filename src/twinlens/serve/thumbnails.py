"""Pictures of items as a browser wants them."""

import io
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from twinlens.report.pictures import open_picture

QUALITY = 85  # of a JPEG: 15 kB at 320 pixels


def address(item: str) -> str:
    """Where the service has an item's picture."""
    return f"/items/{quote(item, safe='')}/image"


def thumbnail(path: str, size: int) -> tuple[bytes, str] | None:
    """A small JPEG and its media type; `None` if the file cannot be read."""
    picture = open_picture(path, size) if path else None
    return None if picture is None else (as_jpeg(picture), "image/jpeg")


def original(path: str) -> tuple[bytes, str] | None:
    """The file and its media type by its own bytes; `None` if it is no picture."""
    try:
        contents = Path(path).read_bytes() if path else b""
        with Image.open(io.BytesIO(contents)) as picture:
            return contents, Image.MIME[picture.format]
    except (OSError, KeyError, Image.DecompressionBombError):
        return None


def blank(size: int = 32) -> bytes:
    """A grey picture."""
    return as_jpeg(Image.new("RGB", (size, size), "grey"))


def as_jpeg(picture: Image.Image) -> bytes:
    """A picture as the bytes of a JPEG."""
    contents = io.BytesIO()
    picture.save(contents, "JPEG", quality=QUALITY)
    return contents.getvalue()
