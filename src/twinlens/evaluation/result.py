"""What an evaluation finds, and where it is left."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from twinlens.runs import Run
from twinlens.writing import whole_file


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        summary: what `evaluation.json` holds.
        ranks: one row per query: `direction`, `image_id`, `caption` (empty for a
            picture's query), `rank` (1 = best), `gallery`; see `measure_composed` for
            the other columns of composed queries.
        embedded: the split it was measured on: `Embedded`, or `ComposedEmbedded`.
    """

    summary: dict[str, Any]
    ranks: pd.DataFrame
    embedded: Any

    def metric(self, name: str) -> float:
        """A metric's value, for example `"text_to_image/recall@1"`."""
        return self.summary["metrics"][name]["value"]


def write_evaluation(run: Run, found: Evaluation) -> None:
    """Leaves an evaluation in the run's folder."""
    run.write_json("evaluation.json", found.summary)
    with whole_file(run.folder / "ranks.parquet") as path:
        found.ranks.to_parquet(path, index=False)
