"""What the commands show on the terminal."""

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from twinlens.evaluation import DIRECTIONS, Evaluation

console = Console()


def say(line: str) -> None:
    """Shows a line as it is."""
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_comparison(found: pd.DataFrame, names: tuple[str, str], split: str) -> None:
    """Two runs side by side; `found` as `compare` gives it."""
    table = Table(title=f"{names[0]} and {names[1]} on {split!r}, paired")
    table.add_column("metric", no_wrap=True)
    for column in (*names, "difference", "p"):
        table.add_column(column, justify="right", overflow="fold")
    for row in found.itertuples():
        cells = (f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference:+.4f}")
        table.add_row(row.metric, *cells, f"{row.p_value:.4f}")
    console.print(table)
    say("p: two-sided paired randomisation test, pictures as units.")


def print_metrics(found: list[Evaluation]) -> None:
    """One row per metric, one column per direction; over seeds mean ± deviation."""
    summary = found[0].summary
    title = f"{summary['split']}: {summary['protocol']}"
    table = Table(title=title)
    table.add_column("metric")
    for direction in DIRECTIONS:
        queries, gallery = summary["queries"][direction], summary["gallery"][direction]
        heading = direction.replace("_", " ")
        table.add_column(f"{heading}\n{queries:,} in {gallery:,}", justify="right")
    shown = [n.split("/")[1] for n in summary["metrics"] if n.startswith("text_to")]
    for name in shown:
        if name.startswith("success@") and not name.endswith("%"):
            continue  # the same number as recall@K
        table.add_row(name, *(_cell(found, f"{d}/{name}") for d in DIRECTIONS))
    console.print(table)
    what = "mean ± deviation over seeds" if len(found) > 1 else "bootstrap interval"
    say(f"In percent, ranks in places; {what}.")


def _cell(found: list[Evaluation], name: str) -> str:
    factor = shown_factor(name)
    values = [factor * evaluation.metric(name) for evaluation in found]
    if len(values) > 1:
        return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    entry = found[0].summary["metrics"][name]
    low, high = factor * entry["low"], factor * entry["high"]
    return f"{values[0]:.1f} [{low:.1f}, {high:.1f}]"


def shown_factor(metric: str) -> int:
    """What people see a metric times: shares are in percent, ranks in places."""
    return 1 if metric.endswith("_rank") else 100
