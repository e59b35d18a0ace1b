"""Two models on the same queries."""

import numpy as np
import pandas as pd

from twinlens import metrics
from twinlens.errors import InputError
from twinlens.evaluation.composed import COMPOSED
from twinlens.evaluation.result import Evaluation

COMPARED = ("recall@1", "recall@5", "recall@10", "mrr", "map")
COMPARED_COMPOSED = ("recall@1", "recall@5", "recall@10", "recall@50", "mrr")
QUERY = ["direction", "image_id", "target_id", "caption", "category", "gallery"]


def compare(a: Evaluation, b: Evaluation, seed: int = 0) -> pd.DataFrame:
    """Two models on the same queries: differences with a paired randomisation test.

    Directions are those of the first; of composed queries, the recalls that it has.

    Returns:
        One row per metric: `metric`, `a`, `b`, `difference` (`b - a`), `p_value`
        (two-sided; all queries of a picture are flipped together), and the intervals
        `a_low`, `a_high`, `b_low`, `b_high`.

    Raises:
        InputError: the evaluations have different queries or galleries.
    """
    queries_a, queries_b = (x.ranks.reindex(columns=QUERY) for x in (a, b))
    if not queries_a.equals(queries_b):
        raise InputError(
            "The two runs were not measured on the same queries and gallery "
            f"({len(a.ranks)} and {len(b.ranks)} queries of the splits "
            f"{a.summary['split']!r} and {b.summary['split']!r}). Evaluate both on the "
            "same data and split."
        )
    rows = []
    for direction in a.summary["queries"]:
        chosen = (a.ranks["direction"] == direction).to_numpy()
        groups = a.ranks.loc[chosen, "image_id"].to_numpy()
        for name in _compared(a, direction):
            values_a, values_b = (_query_values(x, chosen, name) for x in (a, b))
            difference, p_value = metrics.paired_randomisation_test(
                values_b, values_a, groups, seed=seed
            )
            full = f"{direction}/{name}"
            row = {"metric": full, "a": values_a.mean(), "b": values_b.mean()}
            row |= {"difference": difference, "p_value": p_value}
            for letter, of in (("a", a), ("b", b)):
                measured = of.summary["metrics"].get(full, {})
                row |= {f"{letter}_{end}": measured.get(end) for end in ("low", "high")}
            rows.append(row)
    return pd.DataFrame(rows)


def _compared(found: Evaluation, direction: str) -> list[str]:
    """Metrics to compare; `map` of one right answer is `mrr` again."""
    if direction != COMPOSED:
        return list(COMPARED)
    measured = found.summary["metrics"]
    return [name for name in COMPARED_COMPOSED if f"{direction}/{name}" in measured]


def _query_values(found: Evaluation, chosen: np.ndarray, name: str) -> np.ndarray:
    if name == "map":
        return found.ranks.loc[chosen, "average_precision"].to_numpy()
    ranks = found.ranks.loc[chosen, "rank"].to_numpy()
    return 1 / ranks if name == "mrr" else (ranks <= int(name.split("@")[1])) * 1.0
