"""The table of a sweep: mean and deviation, the best settings, paired tests."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twinlens.evaluation import Evaluation, query_values
from twinlens.evaluation.comparison import QUERY
from twinlens.metrics import holm, paired_randomisation_test
from twinlens.tables import shown_factor


@dataclass(frozen=True)
class Row:
    """One combination.

    Attributes:
        name: of its first run.
        labels: by axis.
        features: by kind (`"pictures"`, `"captions"`): numbers a feature and items
            encoded a second.
        evaluations: of each seed.
        watched: by name, values on the split val of each seed; empty without one.
    """

    name: str
    labels: dict[str, str]
    features: dict[str, tuple[int, float]]
    evaluations: list[Evaluation]
    watched: dict[str, list[float]]

    def values(self, metrics: tuple[str, ...]) -> dict[str, list[float]]:
        """What is tabled, over the seeds: on val first, then each metric."""
        measured = {m: [e.metric(m) for e in self.evaluations] for m in metrics}
        return self.watched | measured

    def cells(self, metrics: tuple[str, ...]) -> dict[str, Any]:
        """Columns of the table; of every metric mean and deviation."""
        row: dict[str, Any] = dict(self.labels)
        for kind, (dim, rate) in self.features.items():
            row |= {f"{kind}: numbers": dim, f"{kind} a second": rate}
        for name, each in self.values(metrics).items():
            row[name] = float(np.mean(each))
            row[f"{name} deviation"] = float(np.std(each, ddof=1)) if each[1:] else 0.0
        return row

    def __str__(self) -> str:
        return ", ".join(f"{axis} {value}" for axis, value in self.labels.items())


def best_of(rows: list[Row]) -> Row | None:
    """The best on average over seeds, on val; `None` where nobody looked there.

    Never chosen by what is tabled: the best of many on the test split looks better
    than it is.
    """
    if not rows[0].watched:
        return None
    name = next(iter(rows[0].watched))
    sign = -1 if name.endswith("_rank") else 1
    return max(rows, key=lambda row: sign * np.mean(row.watched[name]))


def paired_tests(rows: list[Row], against: Row, metrics: tuple[str, ...]) -> Any:
    """Every other combination against one, where both were asked the same queries.

    Args:
        rows: of the table.
        against: which all others are compared with.
        metrics: those that ranks do not give for single queries are left out.

    Returns:
        `combination`, `metric`, `difference` (to `against`), `p_value` (two-sided; a
        query's value is its mean over seeds, and all queries of a picture are flipped
        together) and `p_holm`, adjusted for the combinations of a metric.
    """
    others = [row for row in rows if row is not against and _same(row, against)]
    groups = against.evaluations[0].ranks[["direction", "image_id"]]
    found = []
    for metric in metrics:
        own = _of_queries(against, metric)
        if own is None:
            continue
        pictures = groups["image_id"][groups["direction"] == metric.split("/")[0]]
        part = []
        for row in others:
            difference, p_value = paired_randomisation_test(
                _of_queries(row, metric), own, pictures.to_numpy()
            )
            part.append((str(row), metric, difference, p_value))
        adjusted = holm([each[-1] for each in part])
        found += [(*each, p) for each, p in zip(part, adjusted, strict=True)]
    columns = ["combination", "metric", "difference", "p_value", "p_holm"]
    return pd.DataFrame(found, columns=columns)


def _same(one: Row, other: Row) -> bool:
    asked, also = (each.evaluations[0].ranks for each in (one, other))
    return asked.reindex(columns=QUERY).equals(also.reindex(columns=QUERY))


def _of_queries(row: Row, metric: str) -> np.ndarray | None:
    values = [query_values(each, metric) for each in row.evaluations]
    return None if values[0] is None else np.mean(values, axis=0)


def as_markdown(table: pd.DataFrame, metrics: tuple[str, ...], seeds: int) -> str:
    """The table for a README, in percent, ranks in places: mean ± deviation."""
    plain = [c for c in table if not c.startswith(tuple(metrics))]
    heads = [*plain, *map(_words, metrics)]
    lines = []
    for row in table.to_dict("records"):
        cells = [_plain(row[name]) for name in plain]
        for name in metrics:
            factor = shown_factor(name)
            deviation = f" ± {factor * row[f'{name} deviation']:.1f}"
            cells.append(f"{factor * row[name]:.1f}{deviation if seeds > 1 else ''}")
        lines.append(cells)
    return _lines(heads, lines)


def markdown_of_tests(tests: pd.DataFrame) -> str:
    """The paired tests for a README, differences as the table shows them."""
    cells = [
        [
            row.combination,
            _words(row.metric),
            f"{shown_factor(row.metric) * row.difference:+.1f}",
            f"{row.p_value:.4f}",
            f"{row.p_holm:.4f}",
        ]
        for row in tests.itertuples()
    ]
    return _lines(["combination", "metric", "difference", "p", "p, Holm"], cells)


def best_in_words(best: Row | None, against: Row, split: str) -> str:
    """Which settings are the best, and what the tests are about."""
    if best is None:
        chosen = "No split val: none is called the best, as test is not to choose by."
    else:
        name, values = next(iter(best.watched.items()))
        factor = shown_factor(name)
        chosen = (
            f"Best on val by {_words(name.removeprefix('val/'))}: {best} "
            f"({factor * np.mean(values):.1f}), first run {best.name}."
        )
    return (
        f"{chosen}\n\nAgainst {against} on {split!r}: paired randomisation tests, "
        "pictures as units, each query's mean over seeds; Holm's adjustment for the "
        "combinations of a metric. Combinations that were asked other queries are not "
        "compared.\n"
    )


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", " ")


def _lines(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
