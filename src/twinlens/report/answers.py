"""Queries and what was found for them, as one picture."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from twinlens.report.pictures import open_picture
from twinlens.search import Query

MOST = 50  # queries in one picture
SIDE = 400  # pixels of a picture inside
CELL = (2.2, 3.0)  # inches


def draw_answers(
    queries: Sequence[Query],
    found: Sequence[pd.DataFrame],
    items: pd.DataFrame,
    path: Path,
) -> None:
    """One row a query: what was asked for, then the answers with title and score.

    Args:
        queries: the first `MOST` are drawn.
        found: answers of each, as `SearchIndex.search_many` gives them.
        items: of the index, for queries by item.
        path: PNG file to write.
    """
    queries, found = queries[:MOST], found[:MOST]
    columns = 1 + max(len(frame) for frame in found)
    size = (CELL[0] * columns, CELL[1] * len(queries))
    figure = Figure(size, dpi=100, layout="constrained")
    for row, (query, frame) in enumerate(zip(queries, found, strict=True)):
        first = figure.add_subplot(len(queries), columns, row * columns + 1)
        _draw_query(first, query, items)
        for place, answer in enumerate(frame.itertuples(), start=2):
            axes = figure.add_subplot(len(queries), columns, row * columns + place)
            _show(axes, answer.image_path)
            _write(axes, f"{answer.rank}.  {answer.score:.3f}\n{_short(answer.title)}")
    figure.savefig(path, format="png")


def _draw_query(axes: Axes, query: Query, items: pd.DataFrame) -> None:
    said = f"“{_short(query.text, 140)}”" if query.text else ""
    if query.item:
        item = items[items["id"] == query.item].iloc[-1]
        _show(axes, item["image_path"])
        said = said or _short(item["title"])
    elif query.image is not None:
        _show(axes, query.image)
    else:
        axes.set_axis_off()
        style = {"fontsize": 11, "ha": "center", "va": "center", "parse_math": False}
        axes.text(0.5, 0.6, textwrap.fill(said, 20), transform=axes.transAxes, **style)
        return
    _write(axes, ("Query\n" + said).strip(), bold=True)
    for side in axes.spines.values():
        side.set(visible=True, color="tab:blue", linewidth=2)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])


def _show(axes: Axes, picture: str | Path | bytes) -> None:
    axes.set_axis_off()
    shown = open_picture(picture, SIDE) or Image.new("RGB", (4, 3), "grey")
    axes.imshow(np.asarray(shown))
    axes.set_anchor("N")  # room for the words is below


def _write(axes: Axes, text: str, bold: bool = False) -> None:
    lines = "\n".join(textwrap.fill(line, 28) for line in text.splitlines())
    weight = "bold" if bold else "normal"
    style = {"fontsize": 8, "va": "top", "ha": "center", "parse_math": False}
    axes.text(0.5, -0.03, lines, transform=axes.transAxes, weight=weight, **style)


def _short(text: str, width: int = 80) -> str:
    return textwrap.shorten(text, width, placeholder=" …")
