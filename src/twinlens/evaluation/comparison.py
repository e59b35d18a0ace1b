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
        groups = a.ranks["image_id"][a.ranks["direction"] == direction].to_numpy()
        for name in _compared(a, direction):
            full = f"{direction}/{name}"
            values_a, values_b = query_values(a, full), query_values(b, full)
            difference, p_value = metrics.paired_randomisation_test(
                values_b, values_a, groups, seed=seed
            )
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


def query_values(found: Evaluation, metric: str) -> np.ndarray | None:
    """A metric of each query of its direction, in the order of the ranks.

    Args:
        found: an evaluation.
        metric: full name, such as `"text_to_image/success@5%"`.

    Returns:
        `(queries,)` float64; `None` where a query's first rank does not tell: medians,
        and nDCG of several right answers.
    """
    direction, name = metric.split("/")
    ranks = found.ranks[found.ranks["direction"] == direction]
    kind, _, cut = name.partition("@")
    if metrics.is_median(name) or (kind == "ndcg" and direction != COMPOSED):
        return None
    if name == "map":
        return ranks["average_precision"].to_numpy()
    in_percent = cut.endswith("%")
    ks = (int(cut),) if cut and not in_percent else ()
    percents = (float(cut[:-1]),) if in_percent else ()
    first, sizes = ranks["rank"].to_numpy(), ranks["gallery"].to_numpy()
    return metrics.composed_values(first, sizes, ks, percents)[name]
