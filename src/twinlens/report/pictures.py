"""Pictures for people: upright, on white, and sheets of them with captions."""

import io
import math
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageOps


def draw_samples(table: pd.DataFrame, path: Path, count: int = 12) -> None:
    """Some pictures of a caption table with one caption each, into a PNG file."""
    first = table.drop_duplicates("image_id")
    rows = first.sample(min(count, len(first)), random_state=0)
    rows_of_four = math.ceil(len(rows) / 4)
    figure = Figure((10.4, 3.2 * rows_of_four), dpi=100, layout="constrained")
    for number, row in enumerate(rows.itertuples(), start=1):
        axes = figure.add_subplot(rows_of_four, 4, number)
        axes.set_axis_off()
        picture = open_picture(row.image_path, 400) or Image.new("RGB", (4, 3), "grey")
        axes.imshow(np.asarray(picture))
        axes.set_anchor("N")  # room for the caption is below
        text = textwrap.shorten(row.caption, 110, placeholder=" …")
        style = {"fontsize": 8, "va": "top", "ha": "center", "parse_math": False}
        lines = textwrap.fill(text, 34)
        axes.text(0.5, -0.03, lines, transform=axes.transAxes, **style)
    figure.savefig(path, format="png")


def open_picture(source: str | Path | bytes, size: int) -> Image.Image | None:
    """A file or its bytes upright, over white, at most `size` pixels a side.

    `None` if the file is not there any more, or is none.
    """
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(opened) as file:
            file.draft("RGB", (size, size))  # a JPEG is decoded smaller at once
            picture = ImageOps.exif_transpose(file)
            picture.thumbnail((size, size))
            picture = picture.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
