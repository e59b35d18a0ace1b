"""What a benchmark finds out: one row an answer, for a terminal and for files.

A benchmark is a module with a function `rows` that yields `Row` as it measures, and
`command(rows)` makes a program of it whose arguments are those of the function.
"""

import functools
import importlib
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import typer
from experiments.benchmarks.rounds import rate, ratios

COLUMNS = ("question", "peer", "ours", "peer's", "figure (spread)", "reach", "reached")


@dataclass(frozen=True)
class Row:
    """One answer.

    Attributes:
        question: what was measured.
        peer: beside what; empty where the figure stands for itself.
        figure: the median of all rounds: how many times better ours is, or a number
            in `unit`.
        low, high: the extremes of all rounds.
        reach: the goal; None where there is none.
        unit: `"×"`: the goal is the least; `"s"`, `"ms"`, `"MB"` or none: the most.
        ours, theirs: what the ratio is of, in words.
    """

    question: str
    peer: str
    figure: float
    low: float
    high: float
    reach: float | None = None
    unit: str = "×"
    ours: str = ""
    theirs: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        if self.reach is None:
            return None
        better = self.figure >= self.reach
        return better if self.unit == "×" else self.figure <= self.reach

    def cells(self) -> list[str]:
        """One text for each of `COLUMNS`."""
        spread = f"{_short(self.low)} to {_short(self.high)}"
        least = "≥" if self.unit == "×" else "≤"
        goal = "" if self.reach is None else f"{least} {_short(self.reach)}"
        verdict = {None: "", True: "yes", False: "**no**"}[self.reached]
        figure = " ".join(filter(None, [_short(self.figure), self.unit, f"({spread})"]))
        return [
            *(self.question, self.peer, self.ours, self.theirs, figure, goal, verdict)
        ]


def compared(
    question: str,
    peer: str,
    seconds: tuple[list[float], list[float]],
    units: tuple[int, str],
    reach: float | None = None,
) -> Row:
    """How many times faster ours is than a peer.

    Args:
        question: what was measured.
        peer: beside what.
        seconds: of ours and of the peer, in each round.
        units: how many a round does, and of what.
        reach: the goal.
    """
    times = ratios(seconds[1], seconds[0])
    ours, theirs = (f"{_short(rate(each, units[0]))} {units[1]}/s" for each in seconds)
    spread = statistics.median(times), min(times), max(times)
    return Row(question, peer, *spread, reach, "×", ours, theirs)


def measured(question: str, values: list[float], reach: float | None, unit: str) -> Row:
    """A figure without a peer: the median of several measurements."""
    spread = statistics.median(values), min(values), max(values)
    return Row(question, "", *spread, reach, unit)


def command(rows: Callable[..., Iterator[Row]]) -> None:
    """Runs a benchmark from the command line."""
    typer.run(printing(rows))


def printing(rows: Callable[..., Iterator[Row]]) -> Callable[..., None]:
    """A program that takes the same arguments and prints the rows."""

    @functools.wraps(rows)
    def program(**arguments: object) -> None:
        shown(rows(**arguments))

    return program


def shown(rows: Iterable[Row]) -> list[Row]:
    """All rows, each printed as soon as it is measured."""
    print(header(), flush=True)
    found = []
    for row in rows:
        print(line(row.cells()), flush=True)
        found.append(row)
    return found


def measure(module: str, function: str, arguments: dict[str, Any]) -> list[Row]:
    """All rows of a benchmark by its name, each printed as soon as it is measured."""
    return shown(getattr(importlib.import_module(module), function)(**arguments))


def header() -> str:
    """The first two lines of the Markdown table."""
    return f"{line(COLUMNS)}\n{line(['---'] * len(COLUMNS))}"


def line(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _short(value: float) -> str:
    """Three digits, or whole numbers above a hundred."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
