"""Composed queries of a data set's triplets, asked of an index, in one stage or two."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from twinlens.composed_experiment import ComposedExperiment, open_experiment
from twinlens.config import SearchSettings
from twinlens.errors import InputError
from twinlens.evaluation import (
    ComposedEmbedded,
    Evaluation,
    measure_composed,
    measure_ranks,
    protocol_line,
)
from twinlens.progress import Progress
from twinlens.runs import open_run
from twinlens.search.search_index import SearchIndex
from twinlens.search.stages import Asked, find_candidates
from twinlens.training.triplets import TripletFeatures

KS = (1, 5, 10, 50)
TUNED_KS = (1, 10)  # whose recalls together are to be as high as can be
MOST = 2000  # triplets that choose a second stage
CANDIDATES = (20, 50, 100)  # that are tried
WEIGHTS = (0.1, 0.25, 0.5, 1.0)  # of the wish alone; 0 is one stage
BLOCK = 256  # queries composed at once


@dataclass(frozen=True)
class TunedStages:
    """What `tune_stages` chose.

    Attributes:
        candidates: that are ranked again; 0: one stage is best.
        text_to_image: weight of the wish alone.
        before, after: recall of the training triplets by K, 0 to 1, in one stage and
            as chosen.
        queries: triplets that it was chosen on.
        gallery: pictures that they searched.
    """

    candidates: int
    text_to_image: float
    before: dict[int, float]
    after: dict[int, float]
    queries: int
    gallery: int


def tune_stages(index: SearchIndex) -> TunedStages:
    """The second stage that finds most targets of training triplets.

    At most `MOST` triplets ask, drawn at random but always the same; the index's
    pictures of train answer. One stage stays where no second one is better.

    Raises:
        InputError: the run has no fusion, or the index no training targets.
    """
    features, gallery = _training(index)
    asked = _asked(index, features, _rows(index, features))
    galleries = dict.fromkeys(asked.categories, gallery)
    found = find_candidates(asked, _pictures(index), galleries, max(CANDIDATES))
    tried = [(0, 0.0), *product(CANDIDATES, WEIGHTS)]
    ranks = [found.ranks(*each) for each in tried]
    recalls = [{k: float((each <= k).mean()) for k in TUNED_KS} for each in ranks]
    best = int(np.argmax([sum(each.values()) for each in recalls]))  # the first such
    return TunedStages(
        *tried[best], recalls[0], recalls[best], len(features), len(gallery)
    )


def evaluate_stages(
    index: SearchIndex, split: str = "test"
) -> tuple[Evaluation, Evaluation]:
    """The triplets of a split in its galleries: by the query alone, and in two stages.

    The second stage is that of the index, or the usual one where it has none. Pictures
    are compared by the field `image` alone, exactly, whatever the backend.

    Raises:
        InputError: the run has no fusion, or the index not all pictures of a gallery.
    """
    experiment = _experiment(index, split)
    kind, features = experiment.searched(split)
    rows = _rows(index, features)
    galleries = {name: rows[each] for name, each in features.galleries.items()}
    _check_complete(index, galleries, split)
    asked, pictures = _asked(index, features, rows), _pictures(index)
    ids = index.vectors.items["id"].to_numpy(object)
    embedded = ComposedEmbedded(asked.queries, features.table, pictures, ids, galleries)
    settings = experiment.config.evaluation.model_copy(
        update={"split": split, "ks": KS, "slices": ()}
    )
    keeps = experiment.data.keeps_reference
    protocol = protocol_line(kind, experiment.data.rule, keeps)
    one = measure_composed(embedded, settings, f"{protocol}; one stage", keeps)
    count, weight = _second_stage(index)
    found = find_candidates(asked, pictures, galleries, count)
    ranks = found.ranks(count, weight)
    protocol += f"; two stages: candidates={count}, text_to_image={weight:g}"
    again = one.ranks.assign(rank=ranks, average_precision=1 / ranks)
    return one, measure_ranks(embedded, again, settings, protocol)


def _training(index: SearchIndex) -> tuple[TripletFeatures, np.ndarray]:
    """Training triplets whose targets are in the index, and its pictures of train."""
    features = _experiment(index, "train", MOST).triplets("train", "")
    chosen = np.random.default_rng(0).permutation(len(features))[:MOST]
    features = _some(features, np.sort(chosen))
    items = index.vectors.items
    gallery = np.flatnonzero(~index.vectors.removed & (items["split"] == "train"))
    known = features.table["target_id"].isin(items["id"].iloc[gallery])
    if not known.any():
        raise InputError(
            f"{index.vectors.folder} has {len(gallery)} pictures of train, none of "
            f"them a target of the {len(known)} training triplets of {index.run}. "
            "Build it of the run's own data: `index --run RUN` without --split."
        )
    return _some(features, np.flatnonzero(known)), gallery


def _experiment(index: SearchIndex, split: str, most: int = 0) -> ComposedExperiment:
    """The run's triplets with the encoders of the index's model.

    Of a fine-tuned one no more than `most` triplets of the split: no cache has the
    features of all.
    """
    made_by = index.vectors.info["model"]
    if not made_by.get("fusion"):
        raise InputError(
            f"{index.vectors.folder} was made by {made_by['name']}, a run without a "
            "fusion: there are no triplets to ask it with. Train one on triplets "
            "(fusion.name=attention), or measure this index with --label."
        )
    model, run = index.model(), open_run(index.run)
    experiment = open_experiment(run.config)
    triplets = experiment.data.triplets
    if run.model_path.exists():
        triplets = triplets[triplets["split"] == split]
        if most:
            triplets = triplets.sample(min(most, len(triplets)), random_state=0)
    return experiment.with_encoders(model.image_encoder, model.text_encoder, triplets)


def _asked(index: SearchIndex, features: TripletFeatures, rows: np.ndarray) -> Asked:
    """Queries over the index; `rows`: of `_rows`."""
    composer, found = index.model().composer, ([], [])
    images, words = features.plain_images, features.texts
    with Progress("composing queries", len(features), "queries") as progress:
        for start in range(0, len(features), BLOCK):
            some = slice(start, start + BLOCK)
            pictures = images[features.references[some]].astype(np.float32)
            texts = words[features.text_rows[some]].astype(np.float32)
            found[0].append(composer(pictures, texts))
            found[1].append(composer(None, texts))
            progress.advance(len(texts))
    references = rows[features.references]
    return Asked(
        *map(np.concatenate, found),
        rows[features.targets],
        np.full_like(references, -1) if features.keeps_reference else references,
        features.table["category"].to_numpy(object),
    )


def _some(features: TripletFeatures, rows: np.ndarray) -> TripletFeatures:
    names = ("references", "targets", "text_rows", "groups")
    arrays = {name: getattr(features, name)[rows] for name in names}
    table = features.table.iloc[rows].reset_index(drop=True)
    return replace(features, table=table, **arrays)


def _pictures(index: SearchIndex) -> np.ndarray:
    if "image" not in index.vectors.fields:
        raise InputError(
            f"{index.vectors.folder} has the fields {', '.join(index.vectors.fields)}; "
            "composed queries are compared with the field image. Build it with that."
        )
    return np.asarray(index.vectors.vectors[:, index.vectors.fields["image"]])


def _rows(index: SearchIndex, features: TripletFeatures) -> np.ndarray:
    """Row of the index of each picture that has features; -1 where it has none."""
    alive = np.flatnonzero(~index.vectors.removed)
    known = pd.Index(index.vectors.items["id"].iloc[alive])
    places = known.get_indexer(features.image_ids)
    return np.where(places >= 0, alive[places], -1)


def _check_complete(
    index: SearchIndex, galleries: Mapping[str, np.ndarray], split: str
) -> None:
    missing = sum(int((rows < 0).sum()) for rows in galleries.values())
    if missing:
        raise InputError(
            f"{index.vectors.folder} lacks {missing} pictures of the galleries of "
            f"{split!r}, so that its answers cannot be compared. Build it of the run's "
            "own data: `index --run RUN` without --split."
        )


def _second_stage(index: SearchIndex) -> tuple[int, float]:
    """Candidates and weight: the index's, or usual ones where it has one stage."""
    own = index.defaults
    if own.candidates:
        return own.candidates, own.text_to_image
    return max(CANDIDATES), SearchSettings().text_to_image
