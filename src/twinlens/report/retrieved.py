"""Captions and the pictures that one or several models find for them."""

import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinlens.errors import InputError
from twinlens.evaluation import Evaluation
from twinlens.report.composed_examples import FAINT, GREEN, GREY
from twinlens.report.examples import ANSWERS, searches
from twinlens.report.pictures import Written, frame, score, show, write_below, written

SIDE = "text_to_image"
PICTURE, WORDS = 1.45, 0.32  # inches: a picture, the words under it
WIDTHS = [1.5] + [1.0] * (ANSWERS + 1)  # the caption; behind the answers a missed one


def draw_retrieved(
    evaluations: Mapping[str, Evaluation],
    queries: Sequence[int],
    table: pd.DataFrame,
    path: Written | None = None,
) -> Figure:
    """One row a caption and model: the caption, its rank, the pictures found.

    The right picture has a green frame. Where it is not among the first five, it stands
    behind them.

    Args:
        evaluations: by the model's name, each of the same queries and gallery.
        queries: rows of `evaluation.ranks` whose direction is `text_to_image`.
        table: caption table with the pictures' files.
        path: PNG file to write, if any.

    Raises:
        InputError: there is nothing to draw, or a row is of no caption.
    """
    _check(evaluations, queries)
    first = table.drop_duplicates("image_id")
    paths = dict(zip(first["image_id"], first["image_path"], strict=True))
    lines = len(queries) * len(evaluations)
    height = PICTURE + WORDS
    size = (PICTURE * sum(WIDTHS), height * lines)
    figure = Figure(size, dpi=100, facecolor="white")
    grid = figure.add_gridspec(
        lines,
        len(WIDTHS),
        **{"left": 0.005, "right": 0.995, "width_ratios": WIDTHS, "wspace": 0.06},
        **{"top": 1 - 0.05 / size[1], "bottom": WORDS / size[1]},
        hspace=WORDS / PICTURE,
    )
    cells = iter(grid.subplots(squeeze=False))
    for query in queries:
        for number, (name, evaluation) in enumerate(evaluations.items()):
            caption, *places = next(cells)
            heading = name if len(evaluations) > 1 else ""
            _draw_caption(caption, evaluation, query, heading, repeated=number > 0)
            _draw_answers(places, evaluation, query, paths)
    return written(figure, path)


def _check(evaluations: Mapping[str, Evaluation], queries: Sequence[int]) -> None:
    captions = [
        int((each.ranks["direction"] == SIDE).sum()) for each in evaluations.values()
    ]
    if not captions or not len(queries) or len(set(captions)) > 1:
        raise InputError(
            f"There are {len(queries)} queries and evaluations of "
            f"{', '.join(map(str, captions)) or 'no'} captions. Give at least one of "
            "both, and evaluations of the same captions."
        )
    wrong = [each for each in queries if not 0 <= each < captions[0]]
    if wrong:
        raise InputError(
            f"The query {wrong[0]} is no caption: rows 0 to {captions[0] - 1} of "
            f"`ranks` have the direction {SIDE!r}."
        )


def _draw_caption(
    axes: Axes, evaluation: Evaluation, query: int, name: str, repeated: bool
) -> None:
    axes.set_axis_off()
    row = evaluation.ranks.iloc[query]
    style = {"transform": axes.transAxes, "ha": "left", "parse_math": False}
    if not repeated:
        said = textwrap.shorten(row["caption"], 130, placeholder=" …")
        axes.text(0, 1, textwrap.fill(f"“{said}”", 24), va="top", fontsize=10, **style)
    words = f"{name}\nrank {row['rank']:,} of {row['gallery']:,}".strip()
    colour = GREEN if row["rank"] == 1 else GREY
    axes.text(0, 0, words, va="bottom", fontsize=9, color=colour, **style)


def _draw_answers(
    places: Sequence[Axes], evaluation: Evaluation, query: int, paths: Mapping
) -> None:
    ids = evaluation.embedded.image_ids
    answers = searches(evaluation)[SIDE].answers(query)
    for axes in places[len(answers) :]:
        axes.set_axis_off()
    for place, (row, value, is_right) in enumerate(answers, start=1):
        axes = places[place - 1]
        show(axes, paths.get(ids[row]))
        frame(axes, GREEN if is_right else FAINT, 2.5 if is_right else 0.8)
        numbered = f"{place}.  " if place <= ANSWERS else "right:  "
        colour = GREEN if is_right else "black"
        write_below(axes, numbered + score(value), color=colour)
