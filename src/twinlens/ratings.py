"""People as judges: what they think of the answers to a query, in an SQLite file."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens.errors import InputError
from twinlens.metrics import bootstrap_intervals, paired_randomisation_test

SCALES = ("match", "satisfaction")
LOWEST, HIGHEST = 1, 5
FORMAT = 1  # of the table; raise it when older readers would misread it
WAIT_SECONDS = 10.0  # for another process that writes
QUERY = ("query_text", "query_item", "query_picture", "filter")
TABLE = f"""
CREATE TABLE IF NOT EXISTS ratings (
  id INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  rater TEXT NOT NULL,
  model TEXT NOT NULL,
  model_name TEXT NOT NULL,
  query_text TEXT NOT NULL,
  query_item TEXT NOT NULL,
  query_picture TEXT NOT NULL,
  filter TEXT NOT NULL,
  settings TEXT NOT NULL,
  results TEXT NOT NULL,
  match INTEGER NOT NULL CHECK (match BETWEEN {LOWEST} AND {HIGHEST}),
  satisfaction INTEGER NOT NULL CHECK (satisfaction BETWEEN {LOWEST} AND {HIGHEST})
)
"""


@dataclass(frozen=True)
class Shown:
    """A query and what was shown for it.

    Attributes:
        model: digest of the model that ranked.
        model_name: its run.
        text, item, where: of the query.
        picture: hexadecimal digest of the file's bytes; empty without one.
        settings: with which it was asked.
        results: ids and scores, best first.
    """

    model: str
    model_name: str
    text: str
    item: str
    picture: str
    where: str
    settings: Mapping[str, Any]
    results: tuple[tuple[str, float], ...]


class RatingFile:
    """Ratings of 1 to 5, one row each.

    Args:
        path: the file; made where there is none.

    Raises:
        InputError: it cannot be written, or is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._open() as connection:
            connection.execute(TABLE)
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def add(self, rater: str, shown: Shown, match: int, satisfaction: int) -> None:
        """Keeps what somebody thinks; what they thought before of the same stays too.

        Args:
            rater: who; only to tell one from another.
            shown: the query and its results.
            match: how well the results fit the query, 1 to 5.
            satisfaction: how content the rater is with them, 1 to 5.

        Raises:
            InputError: a rating outside of the scale, or the file cannot be written.
        """
        if not all(LOWEST <= each <= HIGHEST for each in (match, satisfaction)):
            raise InputError(
                f"match is {match} and satisfaction {satisfaction}; both go from "
                f"{LOWEST} to {HIGHEST}."
            )
        row = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "rater": rater,
            "model": shown.model,
            "model_name": shown.model_name,
            "query_text": shown.text,
            "query_item": shown.item,
            "query_picture": shown.picture,
            "filter": shown.where,
            "settings": json.dumps(dict(shown.settings), sort_keys=True),
            "results": json.dumps([{"id": i, "score": s} for i, s in shown.results]),
            "match": match,
            "satisfaction": satisfaction,
        }
        names, places = ", ".join(row), ", ".join("?" * len(row))
        insert = f"INSERT INTO ratings ({names}) VALUES ({places})"  # noqa: S608
        with self._open() as connection:
            connection.execute(insert, tuple(row.values()))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept, or none of them."""
        try:
            connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS)
            with contextlib.closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise InputError(
                f"Ratings cannot be kept in {self.path} ({error}). Name another file "
                "with --ratings."
            ) from None


def read_ratings(path: str | Path) -> pd.DataFrame:
    """The last rating of each rater for each query of each model.

    Returns:
        The columns of `TABLE`, and `query`: a number from 0 for each query.

    Raises:
        InputError: there is no such file, or it holds no ratings.
    """
    if not Path(path).is_file():
        raise InputError(
            f"There is no file of ratings {path}. `twinlens serve` writes it beside "
            "the index: INDEX/ratings.sqlite."
        )
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found = pd.read_sql_query("SELECT * FROM ratings ORDER BY id", connection)
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        raise InputError(
            f"{path} cannot be read as ratings ({error}). Name a file that "
            "`twinlens serve` has written."
        ) from None
    if not len(found):
        raise InputError(f"{path} holds no ratings yet. Rate some results first.")
    same = ["rater", "model", *QUERY, "settings"]
    found = found.drop_duplicates(same, keep="last").reset_index(drop=True)
    found["query"] = found.groupby(list(QUERY), sort=False).ngroup()
    return found


# === What they say ===


def summarise(ratings: pd.DataFrame, num_samples: int = 1000) -> pd.DataFrame:
    """One row a model: counts, and of each scale mean, interval and agreement.

    Intervals are 95 % bootstrap intervals with queries as units, since ratings of one
    query are not independent.

    Args:
        ratings: of `read_ratings`.
        num_samples: of the bootstrap.

    Returns:
        `model`, `name`, `ratings`, `queries`, `raters`, and for each scale its mean,
        `…_low`, `…_high` and `…_agreement` (as `agreement`).
    """
    rows = []
    for model, own in ratings.groupby("model", sort=False):
        values = {name: own[name].to_numpy(float) for name in SCALES}
        ends = bootstrap_intervals(values, own["query"].tolist(), num_samples)
        row = {
            "model": model,
            "name": own["model_name"].iloc[-1],
            "ratings": len(own),
            "queries": own["query"].nunique(),
            "raters": own["rater"].nunique(),
        }
        for name in SCALES:
            low, high = ends[name]
            row |= {name: values[name].mean(), f"{name}_low": low}
            row |= {f"{name}_high": high, f"{name}_agreement": agreement(own, name)}
        rows.append(row)
    return pd.DataFrame(rows)


def compare_models(ratings: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Two models on the queries that were rated for both.

    A query counts by the mean of its ratings.

    Args:
        ratings: of `read_ratings`.
        a: digest of a model.
        b: digest of another.

    Returns:
        One row a scale: `metric`, `a`, `b`, `difference` and `p_value` of a paired
        randomisation test, `queries`. Empty where no query was rated for both.
    """
    rows = []
    for name in SCALES:
        table = ratings.pivot_table(name, "query", "model")
        both = table.reindex(columns=[a, b]).dropna()
        if len(both):
            first, second = both[a].to_numpy(float), both[b].to_numpy(float)
            difference, p_value = paired_randomisation_test(first, second)
            means = (first.mean(), second.mean())
            rows.append((name, *means, difference, p_value, len(both)))
    columns = ["metric", "a", "b", "difference", "p_value", "queries"]
    return pd.DataFrame(rows, columns=columns)


def agreement(ratings: pd.DataFrame, scale: str) -> float:
    """Krippendorff's alpha, for ordered values, of several raters on the same answers.

    1: they agree; 0: as by chance. NaN where no answers were rated twice, or all
    ratings are alike.

    Args:
        ratings: of one model.
        scale: `match` or `satisfaction`.

    Raises:
        InputError: the extra is not installed.

    Reference:
        Krippendorff 2011, https://repository.upenn.edu/asc_papers/43.
    """
    try:
        import krippendorff
    except ModuleNotFoundError:
        raise InputError(
            'Agreement of raters needs krippendorff: pip install "twinlens[serve]".'
        ) from None
    table = ratings.pivot_table(scale, "rater", ["query", "settings"], aggfunc="last")
    values = table.to_numpy(float)
    paired = values[:, np.isfinite(values).sum(axis=0) > 1]
    if len(np.unique(paired[np.isfinite(paired)])) < 2:
        return float("nan")
    return float(krippendorff.alpha(paired, level_of_measurement="ordinal"))
