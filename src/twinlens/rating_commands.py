"""What `evaluate --ratings` prints."""

import itertools

import numpy as np
from rich.table import Table
from rich.text import Text

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens.ratings import (  # noqa: E402
    SCALES,
    compare_models,
    read_ratings,
    summarise,
)
from twinlens.tables import console, print_comparison, say  # noqa: E402

SHOWN_DIGITS = 8  # of a digest


def print_ratings(path: str) -> None:
    """Ratings by model, how far raters agree, and models side by side."""
    ratings = read_ratings(path)
    found = summarise(ratings)
    table = Table(title=Text(f"Ratings of 1 to 5: {path}"), title_justify="left")
    table.add_column("model", no_wrap=True)
    for heading in ("", "mean", "agreement"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in found.to_dict("records"):
        for name in SCALES:
            model = row["name"] if name == SCALES[0] else ""
            table.add_row(model, name, *_cells(row, name))
    console.print(table)
    for row in found.to_dict("records"):
        counts = "{ratings:,} ratings of {queries:,} queries by {raters:,} raters."
        digest = row["model"][:SHOWN_DIGITS]
        say(f"{row['name']} ({digest}): {counts.format(**row)}")
    say(
        "Means with 95 % bootstrap intervals, queries as units; agreement of raters on "
        "the same answers: Krippendorff's alpha, 1 complete, 0 as by chance."
    )
    names = dict(zip(found["model"], found["name"], strict=True))
    for a, b in itertools.combinations(names, 2):
        both = compare_models(ratings, a, b)
        if len(both):
            queries = f"{both['queries'].iloc[0]:,} queries rated for both"
            print_comparison(both, (names[a], names[b]), queries)


def _cells(row: dict, name: str) -> tuple[str, str]:
    """A mean with its interval, and agreement where there is any to speak of."""
    low, high, alike = (row[f"{name}_{end}"] for end in ("low", "high", "agreement"))
    mean = f"{row[name]:.2f} [{low:.2f}, {high:.2f}]"
    return mean, "–" if np.isnan(alike) else f"{alike:.2f}"
