"""Panels of a report's figures, each for a light and a dark page.

Matplotlib's objects are used without pyplot, so nothing is global: no window, no
current figure, no settings that leak.
"""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from twinlens.metrics import recall_at_k
from twinlens.report.page_parts import of_hundred

SIZE = 4.2, 3.1  # inches: three stand side by side on a page, one on a phone
DPI = 200  # sharp on screens with two pixels a point
LABEL_GAP = 0.055  # of a panel's height, between the labels of lines that end together


@dataclass(frozen=True)
class Theme:
    """Colours of one page; the first two are told apart by every eye (Okabe-Ito)."""

    text_to_image: str
    image_to_text: str
    composed: str
    ink: str
    faint: str
    grid: str
    paper: str

    def of(self, direction: str) -> str:
        """The colour that stands for a direction in every figure."""
        return getattr(self, direction)


LIGHT = Theme(
    "#0072b2", "#d55e00", "#00805d", "#1f2328", "#646b73", "#e4e7ea", "#ffffff"
)
DARK = Theme(
    "#56b4e9", "#e69f00", "#3ecfa3", "#e6e8eb", "#9aa2ab", "#31363d", "#1c1f24"
)
THEMES = {"": LIGHT, "-dark": DARK}


def draw_panels(
    drawings: Mapping[str, Callable[[Axes, Theme], None]],
) -> dict[str, bytes]:
    """PNG files by name, one panel each; `<name>-dark` is the same for a dark page."""
    return {
        name + suffix: _png(draw, theme)
        for name, draw in drawings.items()
        for suffix, theme in THEMES.items()
    }


# === One panel each ===


def loss_panel(
    axes: Axes,
    theme: Theme,
    history: pd.DataFrame,
    kept: int,
    chance: float | None = None,
) -> None:
    """The training loss by epoch, and what it is by chance where that is known."""
    titled(axes, theme, "Training loss")
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


def recall_panel(
    axes: Axes,
    theme: Theme,
    title: str,
    direction: str,
    history: pd.DataFrame,
    kept: int,
    start: dict[str, float],
) -> None:
    """Recall@K of the validation split by epoch; all directions get one scale."""
    titled(axes, theme, title)
    columns = recall_columns(history, direction)
    every = list(history.filter(regex=r"^val/\w+/recall@\d+$"))
    top = max([history[every].max().max(), *(start.get(c[4:], 0) for c in every)])
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


def success_panel(
    axes: Axes,
    theme: Theme,
    title: str,
    direction: str,
    ranks: np.ndarray,
    chance: np.ndarray,
    marked: tuple[int, str],
) -> None:
    """Share of queries with a right answer among the first K.

    Args:
        axes: to draw on.
        theme: colours of the page.
        title: of the panel.
        direction: gives the colour.
        ranks: `(queries,)` of the first right answer, 1 = best.
        chance: `(gallery,)` the same share within 1, 2, … places by chance.
        marked: a K to show, and its words.
    """
    titled(axes, theme, title)
    gallery, (part, words) = len(chance), marked
    places = np.arange(1, gallery + 1)
    found = np.searchsorted(np.sort(ranks), places, side="right") / len(ranks)
    axes.plot(places, chance, color=theme.faint, dashes=(4, 3), linewidth=1)
    near = int(np.argmin(abs(chance - 0.3)))
    _note(axes, theme, places[near], chance[near], "  chance", va="top")
    axes.plot(places, found, color=theme.of(direction), linewidth=2)
    axes.axvline(part, color=theme.faint, linewidth=1, dashes=(1, 2))
    _note(axes, theme, part, 0.3, f"{words} ", ha="right")
    beside = {1: {"ha": "left", "va": "top"}, part: {"ha": "right", "va": "bottom"}}
    for place, style in beside.items():
        share = recall_at_k(ranks, place)
        axes.plot(place, share, "o", color=theme.of(direction), clip_on=False)
        if share < 0.1:  # below is the axis
            style = style | {"va": "bottom"}
        text = f"  {of_hundred(share)} %  "
        _note(axes, theme, place, share, text, color=theme.ink, **style)
    axes.set_xscale("log")
    axes.set_xlim(1, max(2, gallery))
    axes.set_ylim(0, 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel(f"K, of {gallery:,}")


# === What the panels share ===


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


def titled(axes: Axes, theme: Theme, text: str) -> None:
    """Gives a panel its title."""
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


def recall_columns(history: pd.DataFrame, direction: str) -> dict[int, str]:
    """K to the history's column of recall@K on val, smallest K first."""
    pattern = re.compile(rf"val/{direction}/recall@(\d+)")
    found = {int(m[1]): c for c in history if (m := pattern.fullmatch(c))}
    measured = {k: c for k, c in found.items() if history[c].notna().any()}
    return dict(sorted(measured.items()))
