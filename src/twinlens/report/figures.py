"""Figures of a report as PNG, each for a light and a dark page.

Matplotlib's objects are used without pyplot, so nothing is global: no window, no
current figure, no settings that leak.
"""

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from twinlens.evaluation import DIRECTIONS, Evaluation
from twinlens.metrics import recall_at_k
from twinlens.metrics.retrieval import places_of_percent
from twinlens.runs import Run

SIZE = 4.2, 3.1  # inches: three stand side by side on a page, one on a phone
DPI = 200  # sharp on screens with two pixels a point
PERCENT = 5.0  # of the gallery, marked in the success curves
LABEL_GAP = 0.055  # of a panel's height, between the labels of lines that end together
SAMPLES = 20_000  # cosines in the histogram: bars are then steady to a few percent
TITLES = {"text_to_image": "text → image", "image_to_text": "image → text"}


@dataclass(frozen=True)
class Theme:
    """Colours of one page; the first two are told apart by every eye (Okabe-Ito)."""

    text_to_image: str
    image_to_text: str
    ink: str
    faint: str
    grid: str
    paper: str

    def of(self, direction: str) -> str:
        """The colour that stands for a direction in every figure."""
        return getattr(self, direction)


LIGHT = Theme("#0072b2", "#d55e00", "#1f2328", "#646b73", "#e4e7ea", "#ffffff")
DARK = Theme("#56b4e9", "#e69f00", "#e6e8eb", "#9aa2ab", "#31363d", "#1c1f24")


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
    drawings = {"loss": partial(_loss, history=history, kept=kept, chance=chance)}
    for direction in DIRECTIONS:
        side = direction.replace("_", "-")
        if _recall_columns(history, direction):
            drawings[f"recall-{side}"] = partial(
                _recall, direction=direction, history=history, kept=kept, start=start
            )
        drawings[f"success-{side}"] = partial(
            _success, direction=direction, evaluation=evaluation
        )
    pairs, others = sample_cosines(evaluation)
    drawings["cosines"] = partial(_cosines, pairs=pairs, others=others)
    themes = {"": LIGHT, "-dark": DARK}
    return {
        name + suffix: _png(draw, theme)
        for name, draw in drawings.items()
        for suffix, theme in themes.items()
    }


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


# === One panel each ===


def _loss(
    axes: Axes, theme: Theme, history: pd.DataFrame, kept: int, chance: float | None
) -> None:
    _title(axes, theme, "Training loss")
    _line(axes, history["epoch"], history["loss"], theme.ink)
    top = history["loss"].max()
    if chance is not None:
        top = max(top, chance)
        axes.axhline(chance, color=theme.faint, dashes=(4, 3), linewidth=1)
        end = max(2, history["epoch"].max())
        _note(axes, theme, end, chance, f"chance: {chance:.2f}", ha="right")
    axes.set_ylim(min(0, history["loss"].min()), 1.12 * top)
    _mark_kept(axes, theme, kept, history, height=0.7)  # above where a loss ends
    _epochs(axes, history)


def _recall(
    axes: Axes,
    theme: Theme,
    direction: str,
    history: pd.DataFrame,
    kept: int,
    start: dict[str, float],
) -> None:
    _title(axes, theme, f"Validation recall, {TITLES[direction]}")
    columns = _recall_columns(history, direction)
    both = [c for d in DIRECTIONS for c in _recall_columns(history, d).values()]
    top = max([history[both].max().max(), *(start.get(c[4:], 0) for c in both)])
    ceiling, height = min(1.02, 1.12 * top + 0.01), -1.0
    for shade, (k, column) in enumerate(columns.items()):
        values = history[["epoch", column]].dropna()
        if start:  # phase 2: where phase 1 ended
            first = pd.DataFrame({"epoch": [0], column: [start[column[4:]]]})
            values = pd.concat([first, values])
        colour = theme.of(direction)
        alpha = 1 - 0.5 * shade / max(1, len(columns) - 1)
        _line(axes, values["epoch"], values[column], colour, alpha=alpha)
        end, last = values.iloc[-1]
        height = max(last, height + LABEL_GAP * ceiling)  # above the label before
        _note(axes, theme, end, height, f" @{k}", color=colour, va="center")
    axes.set_ylim(0, ceiling)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    _mark_kept(axes, theme, kept, history)
    _epochs(axes, history)
    if start:
        axes.set_xlim(left=0)
        _note(axes, theme, 0, 0.09 * axes.get_ylim()[1], " 0: phase 1")
    axes.set_xlim(right=axes.get_xlim()[1] + 0.09 * np.ptp(axes.get_xlim()))


def _success(axes: Axes, theme: Theme, direction: str, evaluation: Evaluation) -> None:
    _title(axes, theme, f"Success within K, {TITLES[direction]}")
    ranks = direction_ranks(evaluation, direction)
    gallery = evaluation.summary["gallery"][direction]
    places = np.arange(1, gallery + 1)
    found = np.searchsorted(np.sort(ranks), places, side="right") / len(ranks)
    chance = chance_curve(right_answers(evaluation, direction), gallery)
    axes.plot(places, chance, color=theme.faint, dashes=(4, 3), linewidth=1)
    near = int(np.argmin(abs(chance - 0.3)))
    _note(axes, theme, places[near], chance[near], "  chance", va="top")
    axes.plot(places, found, color=theme.of(direction), linewidth=2)
    part = places_of_percent(PERCENT, gallery)
    axes.axvline(part, color=theme.faint, linewidth=1, dashes=(1, 2))
    _note(axes, theme, part, 0.3, f"{PERCENT:g} % = {part:,} ", ha="right")
    beside = {1: {"ha": "left", "va": "top"}, part: {"ha": "right", "va": "bottom"}}
    for place, style in beside.items():
        share = recall_at_k(ranks, place)
        axes.plot(place, share, "o", color=theme.of(direction), clip_on=False)
        digits = 1 if 0.995 <= share < 1 else 0  # never "100 %" for 99.7
        text = f"  {100 * share:.{digits}f} %  "
        _note(axes, theme, place, share, text, color=theme.ink, **style)
    axes.set_xscale("log")
    axes.set_xlim(1, max(2, gallery))
    axes.set_ylim(0, 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel(f"K, of {gallery:,}")


def _cosines(axes: Axes, theme: Theme, pairs: np.ndarray, others: np.ndarray) -> None:
    _title(axes, theme, "Scores of pairs and of others")
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


# === What the panels share ===


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


def _png(draw: Callable[[Axes, Theme], None], theme: Theme) -> bytes:
    figure = Figure(SIZE, dpi=DPI, facecolor=theme.paper, layout="constrained")
    axes = figure.add_subplot(facecolor=theme.paper)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)
    axes.tick_params(which="both", colors=theme.faint, labelsize=9, length=0)
    axes.xaxis.label.set_color(theme.faint)
    axes.xaxis.label.set_size(9)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # inches
    draw(axes, theme)
    contents = io.BytesIO()
    figure.savefig(contents, format="png", metadata={"Software": None})
    return contents.getvalue()


def _title(axes: Axes, theme: Theme, text: str) -> None:
    axes.set_title(text, loc="left", color=theme.ink, fontsize=11, pad=10)


def _line(axes: Axes, x: pd.Series, y: pd.Series, colour: str, alpha=1.0) -> None:
    marker = "o" if len(x) == 1 else None  # a line of one epoch cannot be seen
    axes.plot(x, y, color=colour, linewidth=2, alpha=alpha, marker=marker)


def _note(
    axes: Axes, theme: Theme, x: float, y: float, text: str, **style: str
) -> None:
    """Words at a point."""
    axes.text(
        x, y, text, **{"color": theme.faint, "fontsize": 9, "va": "bottom"} | style
    )


def _mark_kept(
    axes: Axes, theme: Theme, kept: int, history: pd.DataFrame, height: float = 0.02
) -> None:
    axes.axvline(kept, color=theme.faint, linewidth=1, dashes=(1, 2))
    late = kept > history["epoch"].max() / 2
    level = height * axes.get_ylim()[1]
    _note(axes, theme, kept, level, f" kept: {kept} ", ha="right" if late else "left")


def _epochs(axes: Axes, history: pd.DataFrame) -> None:
    axes.set_xlim(min(1, history["epoch"].min()), max(2, history["epoch"].max()))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def _recall_columns(history: pd.DataFrame, direction: str) -> dict[int, str]:
    """K to the history's column of recall@K, smallest K first."""
    pattern = re.compile(rf"val/{direction}/recall@(\d+)")
    found = {int(m[1]): c for c in history if (m := pattern.fullmatch(c))}
    measured = {k: c for k, c in found.items() if history[c].notna().any()}
    return dict(sorted(measured.items()))
