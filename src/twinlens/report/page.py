"""The page of a report: what is in it; `report.html` says how it looks."""

from pathlib import Path
from typing import Any

import numpy as np

from twinlens import metrics
from twinlens.evaluation import DIRECTIONS, Evaluation
from twinlens.experiment import Experiment
from twinlens.metrics.retrieval import places_of_percent
from twinlens.report.examples import ANSWERS, examples
from twinlens.report.figures import (
    PERCENT,
    TITLES,
    chance_curve,
    direction_ranks,
    draw_figures,
    right_answers,
)
from twinlens.report.page_parts import by_name, run_contents, slice_tables, write_page
from twinlens.runs import Run


def write_pair_report(run: Run, experiment: Experiment, evaluation: Evaluation) -> Path:
    """Writes `report.html` and `figures/*.png` of a run, whole or not at all.

    Args:
        run: a trained run.
        experiment: its data: the table with the paths of the pictures, its problems.
        evaluation: of the run, on any split.

    Returns:
        The page. It holds its pictures and needs no network, script or other file.
    """
    figures = draw_figures(run, evaluation)
    contents = _contents(run, experiment, evaluation)
    return write_page(run, "report.html", contents, figures)


def _contents(
    run: Run, experiment: Experiment, evaluation: Evaluation
) -> dict[str, Any]:
    summary, data = evaluation.summary, experiment.data
    titles = {direction: TITLES[direction] for direction in DIRECTIONS}
    of_data = data.source, data.problems, experiment.broken_images
    return run_contents(run, summary, titles, *of_data) | {
        "answers": {side: _headline(evaluation, side) for side in DIRECTIONS},
        "percent_marked": PERCENT,
        "shown_answers": ANSWERS,
        "confidence": experiment.config.evaluation.confidence,
        "metrics": by_name(summary["metrics"]),
        "slices": slice_tables(summary.get("slices", {})),
        "labels": by_name(summary.get("labels", {}).get("metrics", {})),
        "counts": _counts(experiment),
        "examples": examples(experiment, evaluation),
    }


def _headline(evaluation: Evaluation, direction: str) -> dict[str, Any]:
    """How often the first answer is right, and one of the first 5 %, and by chance."""
    ranks = direction_ranks(evaluation, direction)
    gallery = evaluation.summary["gallery"][direction]
    places = places_of_percent(PERCENT, gallery)
    chance = chance_curve(right_answers(evaluation, direction), gallery)
    return {
        "gallery": gallery,
        "places": places,
        "first": metrics.recall_at_k(ranks, 1),
        "within": metrics.recall_at_k(ranks, places),
        "chance_first": float(chance[0]),
        "chance_within": float(chance[places - 1]),
        "median": float(np.median(ranks)),
    }


def _counts(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Pictures and captions of each split."""
    groups = experiment.table.groupby("split", sort=False)
    return {
        split: {"pictures": part["image_id"].nunique(), "captions": len(part)}
        for split, part in groups
    }
