"""Precision and recall of several ways to search, where a label says what is right."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe-Ito
LINES = ("-", "--", ":")  # when colours begin again
MARKERS = "osD^"
PANELS = ("precision", "recall", "ndcg")


def draw_label_metrics(found: pd.DataFrame, title: str, path: Path) -> None:
    """One panel a metric, one line a system, over the number of answers.

    Args:
        found: one row a system, as `evaluate_labels` gives them.
        title: what was asked of what.
        path: PNG file to write.
    """
    figure = Figure((11, 3.8), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for number, metric in enumerate(PANELS, start=1):
        axes = figure.add_subplot(1, len(PANELS), number)
        _draw(axes, found, metric)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, format="png")


def _draw(axes: Axes, found: pd.DataFrame, metric: str) -> None:
    columns = [name for name in found if name.startswith(f"{metric}@")]
    ks = [int(name.partition("@")[2]) for name in columns]
    for number, row in enumerate(found.to_dict("records")):
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINES[number // len(COLOURS) % len(LINES)],
        }
        values = [row[name] for name in columns]
        axes.plot(range(len(ks)), values, label=row["system"], markersize=5, **style)
    axes.set_xticks(range(len(ks)), [str(k) for k in ks])
    axes.set_xlabel("answers K")
    axes.set_title({"ndcg": "nDCG"}.get(metric, metric) + "@K", fontsize=10)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
