"""What the commands show on the terminal."""

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from twinlens.evaluation import COMPOSED, Evaluation

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
    if COMPOSED in summary["queries"]:
        print_composed(found)
        return
    title = f"{summary['split']}: {summary['protocol']}"
    table = Table(title=title)
    table.add_column("metric")
    directions = list(summary["queries"])
    for direction in directions:
        queries, gallery = summary["queries"][direction], summary["gallery"][direction]
        heading = direction.replace("_", " ")
        table.add_column(f"{heading}\n{queries:,} in {gallery:,}", justify="right")
    for full in summary["metrics"]:
        direction, name = full.split("/")
        if direction != directions[0]:
            continue
        if name.startswith("success@") and not name.endswith("%"):
            continue  # the same number as recall@K
        parts = [evaluation.summary["metrics"] for evaluation in found]
        table.add_row(name, *(_cell(parts, f"{d}/{name}") for d in directions))
    console.print(table)
    say(f"In percent, ranks in places; {_spread(found)}.")


def print_composed(found: list[Evaluation]) -> None:
    """Composed queries: recall by category, then recall, precision and F1 by K.

    The categories are those of FashionIQ's table, the last row is their unweighted
    mean. With several seeds a cell is mean ± deviation.
    """
    summary = found[0].summary
    recalls = [n for n in summary["metrics"] if n.startswith(f"{COMPOSED}/recall@")]
    ks = [name.split("@")[1] for name in recalls]
    table = Table(title=f"{summary['split']}: {summary['protocol']}")
    table.add_column("category")
    for heading in ("queries", "gallery", *(f"R@{k}" for k in ks)):
        table.add_column(heading, justify="right")
    for category, part in summary["categories"].items():
        parts = [each.summary["categories"][category]["metrics"] for each in found]
        sizes = (f"{part['queries']:,}", f"{part['gallery']:,}")
        table.add_row(category, *sizes, *(_cell(parts, name) for name in recalls))
    if len(summary["categories"]) > 1:
        means = [each.summary["category_mean"] for each in found]
        parts = [{name: {"value": mean[name]} for name in recalls} for mean in means]
        table.add_row("mean", "", "", *(_cell(parts, name) for name in recalls))
    console.print(table)
    _print_cutoffs(found, ks)
    say(f"In percent; {_spread(found)}. One answer is right: precision@K ≤ 1 / K.")


def _print_cutoffs(found: list[Evaluation], ks: list[str]) -> None:
    queries = found[0].summary["queries"][COMPOSED]
    table = Table(title=f"all {queries:,} queries")
    for heading in ("K", "recall", "precision", "F1"):
        table.add_column(heading, justify="right")
    parts = [evaluation.summary["metrics"] for evaluation in found]
    for k in ks:
        names = (f"{COMPOSED}/{name}@{k}" for name in ("recall", "precision", "f1"))
        table.add_row(k, *(_cell(parts, name) for name in names))
    console.print(table)


def _spread(found: list[Evaluation]) -> str:
    return "mean ± deviation over seeds" if len(found) > 1 else "bootstrap interval"


def _cell(parts: list[dict[str, dict[str, float]]], name: str) -> str:
    """A metric of one seed with its interval, or over seeds with its deviation."""
    factor = shown_factor(name)
    values = [factor * part[name]["value"] for part in parts]
    if len(values) > 1:
        return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    entry = parts[0][name]
    if "low" not in entry:
        return f"{values[0]:.1f}"
    low, high = factor * entry["low"], factor * entry["high"]
    return f"{values[0]:.1f} [{low:.1f}, {high:.1f}]"


def shown_factor(metric: str) -> int:
    """What people see a metric times: shares are in percent, ranks in places."""
    return 1 if metric.endswith("_rank") else 100
