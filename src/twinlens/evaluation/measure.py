"""A run measured on a split: metrics with intervals, ranks of every query, slices."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from twinlens import metrics
from twinlens.composed import ComposedHeads
from twinlens.composed_experiment import ComposedExperiment, open_experiment
from twinlens.config import Config, EvaluationSettings
from twinlens.embed import Embedder
from twinlens.evaluation.breakdown import by_label, by_slice, intervals
from twinlens.evaluation.composed import COMPOSED, evaluate_triplets
from twinlens.evaluation.result import Evaluation, write_evaluation
from twinlens.experiment import Experiment
from twinlens.model import DualEncoder, Heads
from twinlens.runs import Run
from twinlens.training.pairs import PairFeatures
from twinlens.training.phase2 import load_trained

DIRECTIONS = ("text_to_image", "image_to_text")


@dataclass(frozen=True)
class Embedded:
    """One split in the shared space.

    Attributes:
        images: `(pictures, dim)` unit vectors.
        texts: `(captions, dim)` unit vectors, grouped by picture.
        picture_of_caption: `(captions,)` row of each caption's picture.
        image_ids: `(pictures,)` names.
        captions: `(captions,)` texts.
    """

    images: np.ndarray
    texts: np.ndarray
    picture_of_caption: np.ndarray
    image_ids: np.ndarray
    captions: np.ndarray


def embed_split(
    heads: Heads,
    pairs: PairFeatures,
    captions: np.ndarray,
    average_views: bool = False,
) -> Embedded:
    """Embeddings of a split.

    Args:
        heads: trained heads.
        pairs: of the split.
        captions: the texts by row of the text features.
        average_views: whether a picture is the mean of its views; see `Embedder`.
    """
    embed_images = Embedder(heads.image_head, pairs.images.shape[-1])
    embed_texts = Embedder(heads.text_head, pairs.texts.shape[-1])
    return Embedded(
        embed_images(pairs.images, pairs.image_rows, average_views),
        embed_texts(pairs.texts, pairs.text_rows),
        pairs.picture_of_caption,
        pairs.image_ids,
        captions[pairs.text_rows],
    )


def evaluate(
    model: Heads | ComposedHeads | DualEncoder,
    experiment: Experiment,
    settings: EvaluationSettings,
) -> Evaluation:
    """Measures a model on a split of an experiment's data.

    Composed queries of triplets, else captions and pictures in both directions.

    Args:
        model: heads, measured on the cached features; or a dual encoder, whose own
            features of the split are encoded and cached first.
        experiment: the data.
        settings: split and metrics.

    Raises:
        InputError: the split is empty, or an attribute or fold size does not fit.
    """
    heads, seen = model, experiment
    if isinstance(model, DualEncoder):
        heads, seen = model.heads, experiment.seen_by(model, settings.split)
    if isinstance(seen, ComposedExperiment):
        return evaluate_triplets(heads, seen, settings)
    pairs = seen.pairs(settings.split)
    averaged = settings.average_views and pairs.views > 1
    embedded = embed_split(heads, pairs, seen.texts.ids, averaged)
    protocol = _protocol(settings, len(embedded.images))
    values, galleries, ranks = _measure(embedded, settings)
    found = {}
    for direction in DIRECTIONS:
        found |= _with_intervals(direction, values[direction], ranks, settings)
    summary = {
        "split": settings.split,
        "protocol": protocol + (f"; mean of {pairs.views} views" if averaged else ""),
        "gallery": galleries,
        "queries": {d: len(ranks[ranks["direction"] == d]) for d in DIRECTIONS},
        "metrics": found,
    }
    attributes = experiment.table.drop_duplicates("image_id").set_index("image_id")
    if settings.slices:
        summary["slices"] = by_slice(values, ranks, attributes, settings)
    if settings.label:
        summary["labels"] = by_label(
            embedded.images,
            embedded.texts,
            embedded.picture_of_caption,
            attributes.loc[embedded.image_ids],
            settings,
        )
    return Evaluation(summary, ranks, embedded)


def evaluate_run(run: Run, config: Config | None = None) -> Evaluation:
    """Measures a trained run and writes `evaluation.json` and `ranks.parquet`.

    Args:
        run: a trained run.
        config: its settings with another `evaluation` section; its own by default.
    """
    config = config or run.config
    found = evaluate(load_trained(run), open_experiment(config), config.evaluation)
    write_evaluation(run, found)
    return found


def metric_names(settings: EvaluationSettings, composed: bool = False) -> list[str]:
    """Names of all that `evaluate` measures, such as `"text_to_image/recall@1"`."""
    one = np.ones(1, int)
    if composed:
        of_one = metrics.composed_values(one, 1, settings.ks, settings.percents)
        return [f"{COMPOSED}/{name}" for name in of_one]
    of_one = metrics.per_query(one, 1, settings.ks, settings.percents)
    return [f"{direction}/{name}" for direction in DIRECTIONS for name in of_one]


def _measure(
    embedded: Embedded, settings: EvaluationSettings
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, int], pd.DataFrame]:
    """Per-query values by direction, sizes of the galleries, and the ranks."""
    count = len(embedded.images)
    size = settings.fold_size or count
    folds, _ = metrics.fold_slices(range(count), size)
    every_fold = metrics.fold_ranks(
        embedded.images, range(count), embedded.texts, embedded.picture_of_caption, size
    )
    values: dict[str, list] = {direction: [] for direction in DIRECTIONS}
    frames, galleries = [], {}
    for fold, ranks in zip(folds, every_fold, strict=True):
        inside = (embedded.picture_of_caption >= fold.start) & (
            embedded.picture_of_caption < fold.stop
        )
        sides = {
            "text_to_image": (ranks.text_to_image, ranks.num_images, None),
            "image_to_text": (
                ranks.image_to_text,
                ranks.num_texts,
                ranks.image_to_text_all,
            ),
        }
        for direction, (first, gallery, positives) in sides.items():
            found = metrics.per_query(
                first, gallery, settings.ks, settings.percents, positives
            )
            values[direction].append(found)
            galleries[direction] = gallery
            of_text = direction == "text_to_image"
            pictures = embedded.picture_of_caption[inside] if of_text else fold
            frames.append(
                pd.DataFrame(
                    {
                        "direction": direction,
                        "image_id": embedded.image_ids[pictures],
                        "caption": embedded.captions[inside] if of_text else "",
                        "rank": first,
                        "average_precision": found["map"],
                        "gallery": gallery,
                    }
                )
            )
    ranks = pd.concat(frames).sort_values("direction", kind="stable", ascending=False)
    joined = {
        direction: {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}
        for direction, parts in values.items()
    }
    return joined, galleries, ranks.reset_index(drop=True)


def _with_intervals(
    direction: str,
    values: dict[str, np.ndarray],
    ranks: pd.DataFrame,
    settings: EvaluationSettings,
) -> dict[str, dict[str, float]]:
    groups = ranks.loc[ranks["direction"] == direction, "image_id"].to_numpy()
    return {
        f"{direction}/{name}": entry
        for name, entry in intervals(values, groups, settings).items()
    }


def _protocol(settings: EvaluationSettings, pictures: int) -> str:
    if not settings.fold_size:
        return "full gallery; every caption of a picture counts as right"
    text = f"mean over folds of {settings.fold_size} pictures"
    left_over = pictures % settings.fold_size
    return text + (f", the last {left_over} left out" if left_over else "")
