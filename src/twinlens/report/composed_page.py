"""The page of a composed run: a reference picture and a wish find the target."""

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens import metrics
from twinlens.config import Config
from twinlens.data.table import Problem
from twinlens.evaluation import Evaluation
from twinlens.report.attention import AttentionExample, draw_attention
from twinlens.report.composed_examples import (
    KINDS,
    ComposedExample,
    composed_examples,
    draw_composed,
)
from twinlens.report.examples import thumbnail
from twinlens.report.page_parts import by_name, run_contents, slice_tables, write_page
from twinlens.report.panels import (
    THEMES,
    draw_panels,
    loss_panel,
    recall_columns,
    recall_panel,
    success_panel,
)
from twinlens.runs import Run

COMPOSED = "composed"  # the direction, as in "composed/recall@10"
NEAR = 10  # places whose share the first sentence tells
AT_K = ("recall", "precision", "f1")
BY_CATEGORY = ("recall@1", "recall@10", "recall@50", "median_rank")
PUBLISHED = ("recall@10", "recall@50")  # FashionIQ is compared by the mean of both


def write_composed_report(
    run: Run,
    evaluation: Evaluation,
    *,
    config: Config,
    counts: Mapping[str, Mapping[str, int]],
    source: str,
    problems: Sequence[Problem],
    broken: pd.DataFrame,
    paths: Mapping[str, str | Path],
    keeps_reference: bool,
    attention: Sequence[AttentionExample] = (),
) -> Path:
    """Writes `report.html` and `figures/*.png` of a run, whole or not at all.

    Spreads over seeds and the comparison with phase 1 are read from the run's
    `seeds.json` and `comparison.json`, where they are of the same split.

    Args:
        run: a trained run.
        evaluation: of its composed queries, on any split.
        config: the settings that it was evaluated with.
        counts: by split, what the data has: name → number, the same names for all.
        source: of the data, in words.
        problems: of the data.
        broken: pictures that were left out, a row each.
        paths: picture id → file.
        keeps_reference: whether a query may find its own reference.
        attention: of some queries.

    Returns:
        The page. It holds its pictures and needs no network, script or other file.
    """
    chosen = composed_examples(evaluation, paths, keeps_reference)
    figures = _panels(run, evaluation) | _pictures(chosen, attention)
    summary = evaluation.summary
    titles = {COMPOSED: "reference and wish → target"}
    contents = run_contents(run, summary, titles, source, problems, broken) | {
        "answer": _headline(evaluation),
        "confidence": config.evaluation.confidence,
        "keeps_reference": keeps_reference,
        "near": NEAR,
        "categories": _categories(summary),
        "at_k": _at_k(summary["metrics"]),
        "others": _others(summary["metrics"]),
        "slices": slice_tables(summary.get("slices", {})),
        "counts": counts,
        "kinds": KINDS,
        "examples": _with_thumbnails(chosen),
    }
    return write_page(run, "composed.html", contents, figures)


def composed_chance(galleries: np.ndarray) -> np.ndarray:
    """`(largest gallery,)` share of targets within 1, 2, … places drawn by lot.

    Args:
        galleries: `(queries,)` how many pictures each query searches.
    """
    sizes, queries = np.unique(galleries, return_counts=True)
    places = np.arange(1, sizes[-1] + 1)
    return queries @ np.minimum(1, places / sizes[:, None]) / queries.sum()


# === Numbers ===


def _headline(evaluation: Evaluation) -> dict[str, Any]:
    """How often the target is the first answer, or near, and by chance."""
    ranks = evaluation.ranks["rank"].to_numpy()
    galleries = evaluation.ranks["gallery"].to_numpy()
    chance = composed_chance(galleries)
    return {
        "queries": len(ranks),
        "smallest": int(galleries.min()),
        "largest": int(galleries.max()),
        "first": metrics.recall_at_k(ranks, 1),
        "near": metrics.recall_at_k(ranks, NEAR),
        "chance_first": float(chance[0]),
        "chance_near": float(chance[min(NEAR, len(chance)) - 1]),
        "median": float(np.median(ranks)),
    }


def _of_composed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"composed/map": x}` to `{"map": x}`, without `success@K`."""
    return {name: row[COMPOSED] for name, row in by_name(values).items()}


def _at_k(values: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """By K: `recall`, `precision` and `f1`, those that were measured."""
    rows: dict[int, dict[str, Any]] = {}
    for full, value in _of_composed(values).items():
        name, _, place = full.partition("@")
        if name in AT_K:
            rows.setdefault(int(place), {})[name] = value
    return dict(sorted(rows.items()))


def _others(values: Mapping[str, Any]) -> dict[str, Any]:
    """What does not stand in the table by K.

    With one right answer for each query `map` is `mrr`, and is left out.
    """
    pattern = re.compile(rf"({'|'.join(AT_K)})@\d+|map")
    found = _of_composed(values).items()
    return {name: value for name, value in found if not pattern.fullmatch(name)}


def _categories(summary: dict[str, Any]) -> dict[str, Any]:
    """One row a category and their unweighted mean; nothing if there is only one.

    Each has `published`, the mean of recall@10 and recall@50, where both are.
    """
    parts = summary.get("categories", {})
    if len(parts) < 2:
        return {}
    rows = {}
    for category, part in parts.items():
        own = _of_composed(part["metrics"])
        values = {name: entry["value"] for name, entry in own.items()}
        rows[category] = part | {"metrics": own, "published": _published(values)}
    mean = _of_composed(summary["category_mean"])
    names = [name for name in BY_CATEGORY if name in mean]
    names = names or [name for name in mean if name.startswith("recall@")]
    total = {"metrics": mean, "published": _published(mean)}
    return {"rows": rows, "names": names, "mean": total}


def _published(values: Mapping[str, float]) -> float | None:
    found = [values.get(name) for name in PUBLISHED]
    return None if None in found else sum(found) / len(found)


# === Figures and pictures ===


def _panels(run: Run, evaluation: Evaluation) -> dict[str, bytes]:
    history, training = run.history(), run.read_json("training.json")
    kept, start = training["kept_epoch"], training.get("start", {})
    ranks = evaluation.ranks
    common = {"direction": COMPOSED}
    found = {
        "loss": partial(loss_panel, history=history, kept=kept),
        "success": partial(
            success_panel,
            title="Recall within K",
            ranks=ranks["rank"].to_numpy(),
            chance=composed_chance(ranks["gallery"].to_numpy()),
            marked=(NEAR, f"K = {NEAR}"),
            **common,
        ),
    }
    if recall_columns(history, COMPOSED):
        curves = {"history": history, "kept": kept, "start": start} | common
        found["recall"] = partial(recall_panel, title="Validation recall", **curves)
    return draw_panels(found)


def _pictures(
    chosen: Mapping[str, Sequence[ComposedExample]],
    attention: Sequence[AttentionExample],
) -> dict[str, bytes]:
    """PNG files: the examples for other places than the page, and the attention."""
    contents = io.BytesIO()
    draw_composed(chosen, contents)
    found = {"examples": contents.getvalue()}
    for suffix, theme in THEMES.items() if attention else ():
        contents = io.BytesIO()
        draw_attention(attention, contents, theme)
        found["attention" + suffix] = contents.getvalue()
    return found


def _with_thumbnails(
    chosen: Mapping[str, Sequence[ComposedExample]],
) -> dict[str, list[dict[str, Any]]]:
    """The same examples with pictures as base64 instead of files."""
    small = cache(thumbnail)
    return {
        kind: [
            vars(example)
            | {
                "reference": small(example.reference),
                "target": small(example.target),
                "answers": [
                    dataclasses.replace(each, path=small(each.path))
                    for each in example.answers
                ],
            }
            for example in some
        ]
        for kind, some in chosen.items()
    }
