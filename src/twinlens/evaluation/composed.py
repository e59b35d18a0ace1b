"""Composed queries measured: all together, by category, and their unweighted mean."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twinlens import metrics
from twinlens.composed import ComposedHeads
from twinlens.composed_experiment import ComposedExperiment
from twinlens.config import EvaluationSettings
from twinlens.embed import Embedder
from twinlens.errors import InputError
from twinlens.evaluation.breakdown import by_slice_of_queries, intervals
from twinlens.evaluation.result import Evaluation
from twinlens.training.composing import query_embedder

COMPOSED = "composed"  # the direction, as in "composed/recall@10"


@dataclass(frozen=True)
class ComposedEmbedded:
    """The composed queries of one split and the pictures they search.

    Attributes:
        queries: `(queries, dim)` unit vectors of a reference and a wish.
        triplets: `(queries)` rows of `reference_id`, `target_id`, `wish`, `split`,
            `category` and attributes.
        pictures: `(pictures, dim)` unit vectors of all galleries of the split.
        image_ids: `(pictures,)` names, each once.
        galleries: by category, the rows of `pictures` that its queries search.
    """

    queries: np.ndarray
    triplets: pd.DataFrame
    pictures: np.ndarray
    image_ids: np.ndarray
    galleries: dict[str, np.ndarray]


def evaluate_triplets(
    heads: ComposedHeads, experiment: ComposedExperiment, settings: EvaluationSettings
) -> Evaluation:
    """Measures heads on the composed queries of a split.

    Args:
        heads: trained for the experiment's features.
        experiment: triplets, galleries and features; see `Experiment.seen_by`.
        settings: split, gallery and metrics.

    Raises:
        InputError: as `measure_composed`.
    """
    kind, triplets = experiment.searched(settings.split)
    embed = Embedder(heads.image_head, triplets.image_shape)
    pictures = embed(triplets.plain_images, np.arange(len(triplets.image_ids)))
    queries = query_embedder(heads, triplets.image_shape, triplets.text_shape)(triplets)
    data = experiment.data
    return measure_composed(
        ComposedEmbedded(
            queries,
            triplets.table,
            pictures,
            triplets.image_ids,
            dict(triplets.galleries),
        ),
        settings,
        protocol_line(kind, data.rule, data.keeps_reference),
        data.keeps_reference,
    )


def protocol_line(gallery_kind: str, rule: str, keeps_reference: bool) -> str:
    """What a number depends on: the gallery, the wish and the reference.

    Args:
        gallery_kind: for example `"original split"`.
        rule: how captions become a wish, for example `"caption 1 and caption 2"`.
        keeps_reference: whether a query's reference stays in its gallery.
    """
    reference = "stays in the gallery" if keeps_reference else "is left out"
    return f"gallery: {gallery_kind}; wish: {rule}; the reference {reference}"


def measure_composed(
    embedded: ComposedEmbedded,
    settings: EvaluationSettings,
    protocol: str,
    keeps_reference: bool,
) -> Evaluation:
    """Measures composed queries, each against the gallery of its category.

    Queries of one reference are not independent: they are drawn together.

    Args:
        embedded: the queries and galleries of a split.
        settings: the split's name, metrics, slices and intervals.
        protocol: of `protocol_line`.
        keeps_reference: whether a query's reference competes with its target.

    Returns:
        An evaluation with one row of `ranks` per query, in the order of the triplets:
        `direction`, `image_id` (the reference), `target_id`, `caption` (the wish),
        `category`, `rank`, `average_precision`, `gallery` (how many competed). Its
        summary has `metrics` over all queries, `categories` with `queries`, `gallery`
        and `metrics` of each, and `category_mean`, their unweighted mean, which is
        what FashionIQ reports. `gallery` counts the pictures of all galleries, those
        that a query leaves out included.

    Raises:
        InputError: there are no queries, a target is not in its gallery, a query
            leaves out its own target, or a setting or attribute does not fit.

    Reference:
        Wu et al. 2021, Fashion IQ, https://arxiv.org/abs/1905.12794.
    """
    _check(embedded, settings)
    ranks = _ranks(embedded, keeps_reference)
    return measure_ranks(embedded, ranks, settings, protocol)


def measure_ranks(
    embedded: ComposedEmbedded,
    ranks: pd.DataFrame,
    settings: EvaluationSettings,
    protocol: str,
) -> Evaluation:
    """An evaluation from ranks, as `measure_composed` finds them or another search.

    Args:
        embedded: the queries and galleries of a split.
        ranks: one row per query; see `measure_composed`.
        settings: the split's name, metrics, slices and intervals.
        protocol: what the ranks depend on.
    """
    values = metrics.composed_values(
        ranks["rank"].to_numpy(),
        ranks["gallery"].to_numpy(),
        settings.ks,
        settings.percents,
    )
    categories = _by_category(values, ranks, embedded.galleries, settings)
    searched = [embedded.galleries[category] for category in categories]
    summary = {
        "split": settings.split,
        "protocol": protocol,
        "gallery": {COMPOSED: len(np.unique(np.concatenate(searched)))},
        "queries": {COMPOSED: len(ranks)},
        "metrics": _with_intervals(values, ranks["image_id"].to_numpy(), settings),
        "categories": categories,
        "category_mean": _mean([part["metrics"] for part in categories.values()]),
    }
    if settings.slices:
        attributes = embedded.triplets.drop(
            columns=["reference_id", "target_id", "wish"]
        )
        summary["slices"] = by_slice_of_queries(
            {COMPOSED: values}, ranks, attributes, settings
        )
    return Evaluation(summary, ranks, embedded)


def _check(embedded: ComposedEmbedded, settings: EvaluationSettings) -> None:
    triplets = embedded.triplets
    if not len(triplets) or len(triplets) != len(embedded.queries):
        raise InputError(
            f"The split {settings.split!r} has {len(triplets)} triplets and "
            f"{len(embedded.queries)} query vectors; there must be as many, and at "
            "least one. Choose another evaluation.split."
        )
    unknown = sorted(map(str, set(triplets["category"]) - set(embedded.galleries)))
    if unknown:
        raise InputError(
            f"There is no gallery for the category {', '.join(unknown)}; there are "
            f"galleries for {', '.join(embedded.galleries)}."
        )
    if settings.fold_size or settings.label:
        raise InputError(
            "evaluation.fold_size and evaluation.label are about pictures and their "
            "captions, not about composed queries. Leave them out."
        )


def _ranks(embedded: ComposedEmbedded, keeps_reference: bool) -> pd.DataFrame:
    """One row per query, in the order of the triplets."""
    triplets = embedded.triplets
    frame = pd.DataFrame(
        {
            "direction": COMPOSED,
            "image_id": triplets["reference_id"].to_numpy(),
            "target_id": triplets["target_id"].to_numpy(),
            "caption": triplets["wish"].to_numpy(),
            "category": triplets["category"].to_numpy(),
        }
    )
    ranks, sizes = np.empty(len(frame), np.int64), np.empty(len(frame), np.int64)
    for category, part in frame.groupby("category"):
        rows = np.unique(embedded.galleries[category])
        ids = pd.Index(embedded.image_ids[rows])
        targets = ids.get_indexer(part["target_id"])
        _check_targets(part[targets < 0], category, len(rows))
        left_out = np.full(len(part), -1)
        if not keeps_reference:
            left_out = ids.get_indexer(part["image_id"])
        ranks[part.index] = metrics.target_ranks(
            embedded.queries[part.index], embedded.pictures[rows], targets, left_out
        )
        sizes[part.index] = len(rows) - (left_out >= 0)
    return frame.assign(rank=ranks, average_precision=1 / ranks, gallery=sizes)


def _check_targets(missing: pd.DataFrame, category: str, gallery_size: int) -> None:
    if len(missing):
        first = missing.iloc[0]
        raise InputError(
            f"{len(missing)} targets are not in the gallery of {category!r} with its "
            f"{gallery_size} pictures, the first is {first['target_id']!r} of the "
            f"reference {first['image_id']!r}. Add them or leave these triplets out."
        )


def _by_category(
    values: dict[str, np.ndarray],
    ranks: pd.DataFrame,
    galleries: dict[str, np.ndarray],
    settings: EvaluationSettings,
) -> dict[str, dict[str, Any]]:
    found = {}
    for category, part in ranks.groupby("category"):
        own = {name: each[part.index] for name, each in values.items()}
        found[category] = {
            "queries": len(part),
            "gallery": len(np.unique(galleries[category])),
            "metrics": _with_intervals(own, part["image_id"].to_numpy(), settings),
        }
    return found


def _with_intervals(
    values: dict[str, np.ndarray], groups: np.ndarray, settings: EvaluationSettings
) -> dict[str, dict[str, float]]:
    found = intervals(values, groups, settings)
    return {f"{COMPOSED}/{name}": entry for name, entry in found.items()}


def _mean(parts: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Each metric averaged over the categories, which count alike."""
    return metrics.mean_over_folds(
        [{name: entry["value"] for name, entry in part.items()} for part in parts]
    )
