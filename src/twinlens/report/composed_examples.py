"""Composed queries shown in a report: a reference, a wish, what was found."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinlens import metrics
from twinlens.evaluation import Evaluation
from twinlens.report.examples import ANSWERS, choose_rows
from twinlens.report.pictures import Written, frame, score, show, write_below, written

EXAMPLES = {"random": 6, "best": 3, "worst": 5}  # queries shown
KINDS = {
    "random": "Drawn at random",
    "best": "The best: found first, with the highest scores",
    "worst": "The worst: the target came latest",
}
COLUMNS = {  # width of each: a picture is 1, and before the target is a gap
    "reference": 1.0,
    "wish": 1.2,
    **{f"answer {place}": 1.0 for place in range(1, ANSWERS + 1)},
    "": 0.12,
    "target": 1.0,
}
PICTURE, WORDS, TITLE = (1.55, 1.62), 0.5, 0.62  # inches; words are under a picture
BLUE, GREEN = "#0072b2", "#00805d"  # the reference, and what is right
GREY, FAINT = "#6f777f", "#e4e7ea"  # the reference found again, and all else
LONGEST = 190  # letters of a wish in a picture


@dataclass(frozen=True)
class ComposedAnswer:
    """A picture that was found.

    Attributes:
        path: its file; none if it is unknown.
        score: cosine with the query, -1 to 1.
        is_right: whether it is the target.
        is_reference: whether it is the query's own reference.
    """

    path: str | Path | None
    score: float
    is_right: bool
    is_reference: bool


@dataclass(frozen=True)
class ComposedExample:
    """A query with its first answers, best first, and what it should have found.

    Attributes:
        reference: file of the reference; none if it is unknown.
        wish: what should change.
        category: whose gallery was searched.
        answers: the first of it.
        target: file of the target; none if it is unknown.
        score: of the target.
        rank: of the target, 1 = best; ties count against it.
        gallery: how many pictures were searched.
    """

    reference: str | Path | None
    wish: str
    category: str
    answers: tuple[ComposedAnswer, ...]
    target: str | Path | None
    score: float
    rank: int
    gallery: int


def composed_examples(
    evaluation: Evaluation, paths: Mapping[str, str | Path], keeps_reference: bool
) -> dict[str, list[ComposedExample]]:
    """Queries to show by kind, `random`, `best` and `worst`, each of another reference.

    Args:
        evaluation: of composed queries; `ranks` and `embedded.triplets` have one row
            for each of `embedded.queries`, in one order.
        paths: picture id → file.
        keeps_reference: whether a query may find its own reference.
    """
    embedded, ranks = evaluation.embedded, evaluation.ranks["rank"].to_numpy()
    triplets = embedded.triplets
    rows = pd.Index(embedded.image_ids).get_indexer(triplets["target_id"])
    scores = np.einsum("ij,ij->i", embedded.queries, embedded.pictures[rows])
    references = triplets["reference_id"].to_numpy()
    chosen = choose_rows(ranks, scores, references, EXAMPLES)
    return {
        kind: [
            _example(evaluation, row, float(scores[row]), paths, keeps_reference)
            for row in some
        ]
        for kind, some in chosen.items()
    }


def _example(
    evaluation: Evaluation,
    row: int,
    score: float,
    paths: Mapping[str, str | Path],
    keeps_reference: bool,
) -> ComposedExample:
    embedded = evaluation.embedded
    asked = embedded.triplets.iloc[row]
    gallery = np.unique(embedded.galleries[asked["category"]])
    if not keeps_reference:
        gallery = gallery[embedded.image_ids[gallery] != asked["reference_id"]]
    found, values = metrics.top_k(
        embedded.queries[row][None],
        embedded.pictures[gallery],
        min(ANSWERS, len(gallery)),
    )
    ids = embedded.image_ids[gallery[found[0]]]
    answers = tuple(
        ComposedAnswer(
            paths.get(each),
            float(value),
            each == asked["target_id"],
            each == asked["reference_id"],
        )
        for each, value in zip(ids, values[0], strict=True)
    )
    return ComposedExample(
        reference=paths.get(asked["reference_id"]),
        wish=asked["wish"],
        category=asked["category"],
        answers=answers,
        target=paths.get(asked["target_id"]),
        score=score,
        rank=int(evaluation.ranks["rank"].iloc[row]),
        gallery=int(evaluation.ranks["gallery"].iloc[row]),
    )


# === As one picture ===


def draw_composed(
    examples: Mapping[str, Sequence[ComposedExample]], path: Written | None = None
) -> Figure:
    """One row a query: reference, wish, answers, target.

    The reference has a blue frame, the target a green one, also where it was found;
    a grey one marks the reference where the query found it again.

    Args:
        examples: by kind, as `composed_examples` gives them.
        path: PNG file to write, if any.
    """
    groups = {kind: some for kind, some in examples.items() if some}
    heights = [TITLE + len(some) * (PICTURE[1] + WORDS) for some in groups.values()]
    size = (1.05 * PICTURE[0] * sum(COLUMNS.values()), sum(heights))
    figure = Figure(size, dpi=110, facecolor="white")
    tops = 1 - np.cumsum([0, *heights]) / sum(heights)
    for (kind, some), top, bottom in zip(
        groups.items(), tops[:-1], tops[1:], strict=True
    ):
        style = {"fontsize": 13, "weight": "bold", "va": "top"}
        figure.text(0.005, top - 0.08 / size[1], KINDS.get(kind, kind), **style)
        lines = _cells(figure, len(some), top - TITLE / size[1], bottom)
        for line, example in zip(lines, some, strict=True):
            _draw_example(line, example)
        for axes, name in zip(lines[0], COLUMNS, strict=True):
            axes.set_title(name, fontsize=9, color=GREY)
    return written(figure, path)


def _cells(figure: Figure, count: int, top: float, bottom: float) -> np.ndarray:
    """Panels in rows, with room for words under each.

    Places are fixed: to fit more than a hundred panels to their words takes seconds.
    """
    ends = {"top": top, "bottom": bottom + WORDS / figure.get_figheight()}
    spaces = {"hspace": WORDS / PICTURE[1], "wspace": 0.05}
    sides = {"left": 0.005, "right": 0.995, "width_ratios": list(COLUMNS.values())}
    grid = figure.add_gridspec(count, len(COLUMNS), **ends, **sides, **spaces)
    return grid.subplots(squeeze=False)


def _draw_example(line: Sequence[Axes], example: ComposedExample) -> None:
    reference, wish, *places, gap, target = line
    show(reference, example.reference)
    frame(reference, BLUE)
    short = textwrap.shorten(example.wish, LONGEST, placeholder=" …")
    style = {"fontsize": 10, "va": "top", "ha": "left", "parse_math": False}
    wish.text(
        0.03, 1, textwrap.fill(f"“{short}”", 21), transform=wish.transAxes, **style
    )
    for axes in (wish, gap, *places):  # a gallery may have fewer pictures than places
        axes.set_axis_off()
    for place, (axes, each) in enumerate(zip(places, example.answers, strict=False)):
        _draw_answer(axes, place + 1, each)
    show(target, example.target)
    frame(target, GREEN)
    words = f"rank {example.rank:,} of {example.gallery:,}"
    write_below(target, f"{words}\n{score(example.score)}", color=GREEN)


def _draw_answer(axes: Axes, place: int, answer: ComposedAnswer) -> None:
    show(axes, answer.path)
    colour, mark = "black", ""
    frame(axes, FAINT, 0.8)  # shows where a white picture ends
    if answer.is_right:
        colour, mark = GREEN, " ✓"
    elif answer.is_reference:
        colour, mark = GREY, " · reference"
    if mark:
        frame(axes, colour)
    write_below(axes, f"{place}.  {score(answer.score)}{mark}", color=colour)
