"""Metrics with intervals, by value of an attribute, and by label."""

from typing import Any

import numpy as np
import pandas as pd

from twinlens import metrics
from twinlens.config import EvaluationSettings
from twinlens.errors import InputError


def intervals(
    values: dict[str, np.ndarray], groups: np.ndarray, settings: EvaluationSettings
) -> dict[str, dict[str, float]]:
    """`value`, `low` and `high` of each metric; groups are drawn together."""
    ends = metrics.bootstrap_intervals(
        values, groups, settings.bootstrap_samples, settings.confidence
    )
    return {
        name: {
            "value": value,
            "low": float(ends[name][0]),
            "high": float(ends[name][1]),
        }
        for name, value in metrics.summarise(values).items()
    }


def by_slice(
    values: dict[str, dict[str, np.ndarray]],
    ranks: pd.DataFrame,
    attributes: pd.DataFrame,
    settings: EvaluationSettings,
) -> dict[str, Any]:
    """Metrics by value of each attribute; the gallery stays whole.

    `attributes` has one row per picture, by its id.
    """
    of_queries = attributes.loc[ranks["image_id"]]
    return by_slice_of_queries(values, ranks, of_queries, settings)


def by_slice_of_queries(
    values: dict[str, dict[str, np.ndarray]],
    ranks: pd.DataFrame,
    attributes: pd.DataFrame,
    settings: EvaluationSettings,
) -> dict[str, Any]:
    """The same, where `attributes` has one row per query, in the order of `ranks`."""
    found: dict[str, Any] = {}
    for attribute in settings.slices:
        column = _attribute(attributes, attribute, "evaluation.slices")
        column = column.astype(str).to_numpy()
        found[attribute] = {}
        for direction in values:
            asked = (ranks["direction"] == direction).to_numpy()
            ids = ranks.loc[asked, "image_id"].to_numpy()
            labels = column[asked]
            for label in sorted(set(labels)):
                chosen = labels == label
                part = {n: each[chosen] for n, each in values[direction].items()}
                entry = found[attribute].setdefault(
                    label, {"queries": {}, "metrics": {}}
                )
                entry["queries"][direction] = int(chosen.sum())
                entry["metrics"] |= {
                    f"{direction}/{name}": value
                    for name, value in intervals(part, ids[chosen], settings).items()
                }
    return found


def by_label(
    images: np.ndarray,
    texts: np.ndarray,
    picture_of_caption: np.ndarray,
    attributes: pd.DataFrame,
    settings: EvaluationSettings,
) -> dict[str, Any]:
    """Pictures and captions ask for pictures; one with the same label is right.

    `attributes` has one row per picture, in the order of `images`.
    """
    column = _attribute(attributes, settings.label, "evaluation.label")
    labels = column.astype(str).to_numpy()
    known = (column.notna() & (labels != "")).to_numpy(bool)  # others are like nobody
    captions = np.flatnonzero(known[picture_of_caption])
    texts, picture_of_caption = texts[captions], picture_of_caption[captions]
    of_caption = labels[picture_of_caption]
    images, labels = images[known], labels[known]
    sides = {
        "image_to_image": (images, labels, None, None),
        "text_to_image": (texts, of_caption, images, labels),
    }
    found: dict[str, Any] = {"label": settings.label, "metrics": {}, "queries": {}}
    for direction, arguments in sides.items():
        measured = metrics.label_metrics(*arguments, ks=settings.ks)
        rows = measured.query_rows
        groups = rows if arguments[2] is None else picture_of_caption[rows]
        found["queries"][direction] = len(rows)
        found["metrics"] |= {
            f"{direction}/{name}": entry
            for name, entry in intervals(measured.per_query, groups, settings).items()
        }
    return found


def _attribute(attributes: pd.DataFrame, name: str, setting: str) -> pd.Series:
    if name not in attributes:
        known = [c for c in attributes if c not in ("image_path", "caption", "split")]
        raise InputError(
            f"{setting} names {name!r}, which this data set does not have. "
            f"Its attributes: {', '.join(known) or 'none'}."
        )
    return attributes[name]
