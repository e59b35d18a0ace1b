"""Pictures for people: upright, on white, and sheets of them with captions."""

import io
import math
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps

SIDE = 400  # pixels of a picture inside a figure, at most
Written = Path | io.BytesIO  # where a figure goes


def written(figure: Figure, path: Written | None) -> Figure:
    """The figure, also as a PNG file where a path is given."""
    if path is not None:
        figure.savefig(path, format="png")
    return figure


def draw_samples(
    table: pd.DataFrame, path: Written | None = None, count: int = 12
) -> Figure:
    """Some pictures of a caption table with one caption each.

    Args:
        table: caption table.
        path: PNG file to write, if any.
        count: pictures, at most.
    """
    first = table.drop_duplicates("image_id")
    rows = first.sample(min(count, len(first)), random_state=0)
    rows_of_four = math.ceil(len(rows) / 4)
    figure = Figure((10.4, 3.2 * rows_of_four), dpi=100, layout="constrained")
    for number, row in enumerate(rows.itertuples(), start=1):
        axes = figure.add_subplot(rows_of_four, 4, number)
        show(axes, row.image_path)
        write_below(axes, textwrap.shorten(row.caption, 110, placeholder=" …"), 34)
    return written(figure, path)


def show(axes: Axes, picture: str | Path | bytes | None) -> None:
    """A picture in a panel of its own, at the top; grey if it cannot be read."""
    axes.set_axis_off()
    opened = None if picture is None else open_picture(picture, SIDE)
    axes.imshow(np.asarray(opened or Image.new("RGB", (4, 3), "grey")))
    axes.set_anchor("N")  # room for the words is below


def write_below(axes: Axes, text: str, width: int = 28, **style: str) -> None:
    """Words under a picture, at most `width` letters a line."""
    lines = "\n".join(textwrap.fill(line, width) for line in text.splitlines())
    style = {"fontsize": 8, "va": "top", "ha": "center", "parse_math": False} | style
    axes.text(0.5, -0.03, lines, transform=axes.transAxes, **style)


def frame(axes: Axes, colour: str, linewidth: float = 2) -> None:
    """A frame around the picture that `show` drew."""
    for side in axes.spines.values():
        side.set(visible=True, color=colour, linewidth=linewidth)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])


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


def score(value: float) -> str:
    """A cosine as people read it."""
    return f"{value:.2f}".replace("-", "−")
