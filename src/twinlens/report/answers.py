"""Queries and what was found for them, as one picture."""

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinlens.report.pictures import Written, frame, show, write_below, written
from twinlens.search import Query

MOST = 50  # queries in one picture
CELL = (2.2, 3.0)  # inches


def draw_answers(
    queries: Sequence[Query],
    found: Sequence[pd.DataFrame],
    items: pd.DataFrame,
    path: Written | None = None,
) -> Figure:
    """One row a query: what was asked for, then the answers with title and score.

    Args:
        queries: the first `MOST` are drawn.
        found: answers of each, as `SearchIndex.search_many` gives them.
        items: of the index, for queries by item.
        path: PNG file to write, if any.
    """
    queries, found = queries[:MOST], found[:MOST]
    columns = 1 + max(len(frame) for frame in found)
    size = (CELL[0] * columns, CELL[1] * len(queries))
    figure = Figure(size, dpi=100, layout="constrained")
    for row, (query, answers) in enumerate(zip(queries, found, strict=True)):
        first = figure.add_subplot(len(queries), columns, row * columns + 1)
        _draw_query(first, query, items)
        for place, answer in enumerate(answers.itertuples(), start=2):
            axes = figure.add_subplot(len(queries), columns, row * columns + place)
            show(axes, answer.image_path)
            write_below(
                axes, f"{answer.rank}.  {answer.score:.3f}\n{_short(answer.title)}"
            )
    return written(figure, path)


def _draw_query(axes: Axes, query: Query, items: pd.DataFrame) -> None:
    said = f"“{_short(query.text, 140)}”" if query.text else ""
    if query.item:
        item = items[items["id"] == query.item].iloc[-1]
        show(axes, item["image_path"])
        said = said or _short(item["title"])
    elif query.image is not None:
        show(axes, query.image)
    else:
        axes.set_axis_off()
        style = {"fontsize": 11, "ha": "center", "va": "center", "parse_math": False}
        axes.text(0.5, 0.6, textwrap.fill(said, 20), transform=axes.transAxes, **style)
        return
    write_below(axes, ("Query\n" + said).strip(), weight="bold")
    frame(axes, "tab:blue")


def _short(text: str, width: int = 80) -> str:
    return textwrap.shorten(text, width, placeholder=" …")
