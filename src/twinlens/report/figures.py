"""Figures of the report of a run on captions: which panels, and of what."""

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from twinlens.evaluation import DIRECTIONS, Evaluation
from twinlens.metrics.retrieval import places_of_percent
from twinlens.report.panels import (
    Theme,
    draw_panels,
    loss_panel,
    recall_columns,
    recall_panel,
    success_panel,
    titled,
)
from twinlens.runs import Run

PERCENT = 5.0  # of the gallery, marked in the success curves
SAMPLES = 20_000  # cosines in the histogram: bars are then steady to a few percent
TITLES = {"text_to_image": "text → image", "image_to_text": "image → text"}


def draw_figures(run: Run, evaluation: Evaluation) -> dict[str, bytes]:
    """PNG files of a report by name; `<name>-dark` is the same for a dark page.

    `loss`, `success-…` and `cosines` are always there, `recall-…` if the history
    has values of the validation split.
    """
    history, training = run.history(), run.read_json("training.json")
    kept, start = training["kept_epoch"], training.get("start", {})
    chance = None
    if run.config.loss.name == "info_nce":
        chance = math.log(pairs_a_step(run))
    drawings = {"loss": partial(loss_panel, history=history, kept=kept, chance=chance)}
    for direction in DIRECTIONS:
        side = direction.replace("_", "-")
        if recall_columns(history, direction):
            drawings[f"recall-{side}"] = partial(
                recall_panel,
                title=f"Validation recall, {TITLES[direction]}",
                direction=direction,
                history=history,
                kept=kept,
                start=start,
            )
        drawings[f"success-{side}"] = _success(direction, evaluation)
    pairs, others = sample_cosines(evaluation)
    drawings["cosines"] = partial(_cosines, pairs=pairs, others=others)
    return draw_panels(drawings)


def pairs_a_step(run: Run) -> int:
    """How many pairs meet in one loss of a run's training."""
    phase2 = run.config.phase2
    if run.model_path.exists():
        return phase2.negatives or phase2.batch_size
    return run.config.phase1.batch_size


def sample_cosines(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of captions with their own picture, and with any other picture."""
    embedded = evaluation.embedded
    random = np.random.default_rng(0)
    captions = random.integers(0, len(embedded.texts), SAMPLES)
    own, count = embedded.picture_of_caption[captions], len(embedded.images)
    other = (own + random.integers(1, count, SAMPLES)) % count  # never its own
    texts = embedded.texts[captions]
    return tuple(
        np.einsum("ij,ij->i", texts, embedded.images[rows]) for rows in (own, other)
    )


def chance_curve(right_answers: np.ndarray, gallery: int) -> np.ndarray:
    """`(gallery,)` success within 1, 2, … places when the order is drawn by lot.

    Args:
        right_answers: `(queries,)` how many the gallery holds for each query.
        gallery: how many candidates.
    """
    numbers, queries = np.unique(right_answers, return_counts=True)
    left = gallery - np.arange(gallery)  # candidates before each place is drawn
    missed = np.cumprod(np.clip(1 - numbers[:, None] / left, 0, 1), axis=1)
    return 1 - queries @ missed / queries.sum()


def _cosines(axes: Axes, theme: Theme, pairs: np.ndarray, others: np.ndarray) -> None:
    titled(axes, theme, "Scores of pairs and of others")
    bins = np.histogram_bin_edges(np.concatenate([pairs, others]), 60)
    for name, values, colour in (
        ("other pictures", others, theme.faint),
        ("the right picture", pairs, theme.text_to_image),
    ):
        options = {"bins": bins, "density": True, "color": colour}
        axes.hist(values, **options, histtype="stepfilled", alpha=0.25)
        axes.hist(values, **options, histtype="step", linewidth=1.6, label=name)
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9, handlelength=1.2)
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend
    axes.set_yticks([])
    axes.set_xlabel("cosine of caption and picture")


def _success(direction: str, evaluation: Evaluation) -> partial:
    gallery = evaluation.summary["gallery"][direction]
    part = places_of_percent(PERCENT, gallery)
    return partial(
        success_panel,
        title=f"Success within K, {TITLES[direction]}",
        direction=direction,
        ranks=direction_ranks(evaluation, direction),
        chance=chance_curve(right_answers(evaluation, direction), gallery),
        marked=(part, f"{PERCENT:g} % = {part:,}"),
    )


def direction_ranks(evaluation: Evaluation, direction: str) -> np.ndarray:
    """`(queries,)` ranks of one direction, in the order of its queries."""
    ranks = evaluation.ranks
    return ranks.loc[ranks["direction"] == direction, "rank"].to_numpy()


def right_answers(evaluation: Evaluation, direction: str) -> np.ndarray:
    """`(queries,)` how many right answers the gallery holds for each query."""
    queries = len(direction_ranks(evaluation, direction))
    if direction == "text_to_image":
        return np.ones(queries, np.int64)
    return np.bincount(evaluation.embedded.picture_of_caption)[:queries]
