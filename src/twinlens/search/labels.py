"""How good an index is where right means "has the label of the query"."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from twinlens import metrics
from twinlens.config import SearchSettings
from twinlens.errors import InputError
from twinlens.index.filters import Selection
from twinlens.progress import Progress
from twinlens.search.queries import Query
from twinlens.search.ranking import field_weights, weighted
from twinlens.search.search_index import SearchIndex

KS = (1, 5, 10, 20, 30, 50)
TUNED_CANDIDATES = 100  # that the second stage orders anew
SHARES = 10  # steps of the weight of a field
SECOND_STAGE = (0.0, 0.25, 0.5, 1.0, 2.0)  # weights that are tried


@dataclass(frozen=True)
class LabelledItems:
    """Items of one split that have a label: they ask, and they are the gallery.

    Attributes:
        rows: `(n,)` of the index.
        labels: `(n,)` texts.
        gallery: what may be found.
    """

    rows: np.ndarray
    labels: np.ndarray
    gallery: Selection


def labelled_items(index: SearchIndex, label: str, split: str) -> LabelledItems:
    """Items of a split with a label.

    Raises:
        InputError: an attribute that is not there, or a split without such items.
    """
    items = index.vectors.items
    known = [name for name in items if name not in ("image_path", "title")]
    if label not in items:
        raise InputError(
            f"The label {label!r} is no attribute of {index.vectors.folder}. There "
            f"are {', '.join(known)}."
        )
    wanted = ~index.vectors.removed & items[label].notna().to_numpy(bool)
    if split:
        wanted &= (items["split"] == split).to_numpy(bool)
    rows = np.flatnonzero(wanted)
    if len(rows) < 2:
        counts = items["split"].value_counts().to_dict()
        raise InputError(
            f"The split {split!r} of {index.vectors.folder} has {len(rows)} items "
            f"with {label!r}; at least two are needed. Items by split: {counts}."
        )
    labels = items[label].iloc[rows].astype(str).to_numpy()
    return LabelledItems(rows, labels, Selection(items, ~wanted))


def systems(index: SearchIndex) -> dict[str, SearchSettings]:
    """Ways to ask that are set side by side: each field alone, all, and re-ranked."""
    settings = index.settings(candidates=0, diversity=0.0)
    names = {"image": "picture only", "title": "title only"}
    found = {}
    if len(index.vectors.fields) > 1:
        for name in index.vectors.fields:
            said = names.get(name, f"{name} only")
            found[said] = settings.model_copy(update={"weights": {name: 1.0}})
    found["both" if len(found) == 2 else "all fields"] = settings
    if {"image", "title"} <= index.vectors.fields.keys():
        candidates = index.defaults.candidates or TUNED_CANDIDATES
        found["re-ranked"] = settings.model_copy(update={"candidates": candidates})
    return found


def evaluate_labels(
    index: SearchIndex, label: str, split: str = "test", ks: Sequence[int] = KS
) -> pd.DataFrame:
    """Items ask for items of their label, never for themselves.

    Args:
        index: whose items have the label as an attribute.
        label: name of the attribute.
        split: whose items ask and are the gallery; empty for all.
        ks: cut-offs in places.

    Returns:
        One row for each of `systems`: `precision@K`, `recall@K`, `f1@K`, `ndcg@K`,
        each in 0…1, and `map` of one-stage systems.

    Raises:
        InputError: as `labelled_items`.
    """
    labelled = labelled_items(index, label, split)
    ks = [k for k in ks if k < len(labelled.rows)]
    rows = []
    for name, settings in systems(index).items():
        values = label_metrics(index, labelled, settings, ks)
        if not settings.candidates:
            vectors = _joint_vectors(index, labelled, settings)
            whole = metrics.label_metrics(vectors, labelled.labels, ks=ks[:1])
            values["map"] = metrics.summarise(whole.per_query)["map"]
        rows.append({"system": name} | values)
    return pd.DataFrame(rows)


def label_metrics(
    index: SearchIndex,
    labelled: LabelledItems,
    settings: SearchSettings,
    ks: Sequence[int],
) -> dict[str, float]:
    """Metrics of one way to ask, averaged over queries with a right answer."""
    ids = index.vectors.items["id"].iloc[labelled.rows]
    queries = [Query(item=each) for each in ids]
    deep = settings.model_copy(update={"k": max(ks)})
    found = index.ranked(queries, labelled.gallery, deep, exactly=True).rows
    place = np.full(len(index.vectors.items), -1)
    place[labelled.rows] = np.arange(len(labelled.rows))
    found = np.where(found >= 0, place[found], -1)
    measured = metrics.top_k_label_metrics(found, labelled.labels, ks=ks)
    return metrics.summarise(measured.per_query)


def _joint_vectors(
    index: SearchIndex, labelled: LabelledItems, settings: SearchSettings
) -> np.ndarray:
    weights = field_weights(index.vectors, settings.weights)
    return weighted(index.vectors, labelled.rows, weights)


# === Choosing weights ===


def tune(
    index: SearchIndex, label: str, split: str = "val", k: int = 5
) -> dict[str, Any]:
    """Weights of the fields, and of a second stage, with the best precision@K.

    Args:
        index: with at least two fields.
        label: name of the attribute that makes an item right.
        split: on whose items they are chosen.
        k: answers that count.

    Returns:
        Settings for `SearchSettings`, and `precision` that they reached.

    Raises:
        InputError: the index has one field only, or as `labelled_items`.
    """
    if len(index.vectors.fields) < 2:
        raise InputError(
            f"{index.vectors.folder} has the field {next(iter(index.vectors.fields))} "
            "only, so there are no weights to choose. Build it with "
            "--set \"index.fields=['image', 'title']\"."
        )
    labelled = labelled_items(index, label, split)
    weights = list(_shares(list(index.vectors.fields)))
    two_stages = {"image", "title"} <= index.vectors.fields.keys()
    stages = list(product(("joint", "image"), SECOND_STAGE, SECOND_STAGE))
    total = len(weights) + two_stages * len(stages)
    best: dict[str, Any] = {"precision": -1.0}
    with Progress("choosing weights", total, "settings") as progress:
        for each in weights:
            settings = index.settings(weights=each, candidates=0, diversity=0.0)
            best = _better(best, index, labelled, settings, k)
            progress.advance()
        chosen = best["weights"]
        for stage, image, title in stages if two_stages else ():
            settings = index.settings(
                weights=chosen,
                candidates=TUNED_CANDIDATES,
                first_stage=stage,
                text_to_image=image,
                text_to_title=title,
                diversity=0.0,
            )
            best = _better(best, index, labelled, settings, k)
            progress.advance()
    return best


def _better(
    best: dict[str, Any],
    index: SearchIndex,
    labelled: LabelledItems,
    settings: SearchSettings,
    k: int,
) -> dict[str, Any]:
    found = label_metrics(index, labelled, settings, [k])[f"precision@{k}"]
    if found <= best["precision"]:
        return best
    names = ("weights", "candidates", "first_stage", "text_to_image", "text_to_title")
    return {name: getattr(settings, name) for name in names} | {"precision": found}


def _shares(names: list[str]) -> Iterator[dict[str, float]]:
    """All weights in steps that sum to one."""
    steps = SHARES if len(names) == 2 else 4
    for parts in product(range(steps + 1), repeat=len(names)):
        if sum(parts) == steps:
            yield {n: part / steps for n, part in zip(names, parts, strict=True)}


def group_scores(
    index: SearchIndex, label: str, found_on: str = "val", split: str = "test"
) -> dict[str, float]:
    """Mean per-item F1 of groups by a threshold that was found on another split.

    Returns:
        `threshold`, `f1` on `split`, and `f1_found_on`, what it was where it was
        found.
    """
    chosen = labelled_items(index, label, found_on)
    measured = labelled_items(index, label, split)
    settings = index.settings()
    vectors = _joint_vectors(index, chosen, settings)
    threshold, best = metrics.best_threshold(vectors, chosen.labels)
    vectors = _joint_vectors(index, measured, settings)
    found = metrics.group_f1(vectors, measured.labels, [threshold])
    return {"threshold": threshold, "f1": float(found[0]), "f1_found_on": best}
