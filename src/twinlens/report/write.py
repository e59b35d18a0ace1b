"""The report of a run, whatever it was trained on."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from twinlens.composed import ComposedHeads
from twinlens.composed_experiment import ComposedExperiment
from twinlens.encoders import TextEncoder
from twinlens.evaluation import Evaluation
from twinlens.experiment import Experiment
from twinlens.model import DualEncoder
from twinlens.report.attention import AttentionExample
from twinlens.report.composed_page import write_composed_report
from twinlens.report.page import write_pair_report
from twinlens.runs import Run
from twinlens.training.phase2 import load_trained

ATTENTION_QUERIES = 4  # whose attention is drawn


def write_report(run: Run, experiment: Experiment, evaluation: Evaluation) -> Path:
    """Writes `report.html` and `figures/*.png` of a run, whole or not at all.

    Args:
        run: a trained run.
        experiment: its data.
        evaluation: of the run, on any split.

    Returns:
        The page. It holds its pictures and needs no network, script or other file.
    """
    if not isinstance(experiment, ComposedExperiment):
        return write_pair_report(run, experiment, evaluation)
    data = experiment.data
    return write_composed_report(
        run,
        evaluation,
        config=experiment.config,
        counts=_counts(experiment),
        source=data.source,
        problems=data.problems,
        broken=experiment.broken_images,
        paths=experiment.paths,
        keeps_reference=data.keeps_reference,
        attention=_attention(run, experiment, evaluation.summary["split"]),
    )


def _counts(experiment: ComposedExperiment) -> dict[str, dict[str, int]]:
    triplets = experiment.data.triplets
    return {
        split: {
            "triplets": len(part),
            "references": part["reference_id"].nunique(),
            "targets": part["target_id"].nunique(),
        }
        for split, part in triplets.groupby("split", sort=False)
    }


def _attention(
    run: Run, experiment: ComposedExperiment, split: str
) -> list[AttentionExample]:
    if experiment.config.fusion.name != "attention":
        return []  # before the model is read once more
    return attention_examples(load_trained(run), experiment, split)


def attention_examples(
    trained: ComposedHeads | DualEncoder,
    experiment: ComposedExperiment,
    split: str,
    count: int = ATTENTION_QUERIES,
) -> list[AttentionExample]:
    """What a fusion by attention looks at, for some queries of a split drawn by lot.

    Args:
        trained: heads of phase 1, or the whole model of phase 2.
        experiment: its data.
        split: whose queries.
        count: of them, at most.

    Returns:
        None of them where texts are one vector.

    Raises:
        InputError: the fusion has no attention.
    """
    heads, seen = trained, experiment
    if isinstance(trained, DualEncoder):
        heads, seen = trained.heads, experiment.seen_by(trained, split)
    encoder = seen.text_encoder
    if not encoder.gives_tokens:
        return []
    _, triplets = seen.searched(split)
    random = np.random.default_rng(0)
    chosen = random.choice(len(triplets), min(count, len(triplets)), replace=False)
    images = triplets.plain_images[triplets.references[chosen]].astype(np.float32)
    texts = triplets.texts[triplets.text_rows[chosen]].astype(np.float32)
    over_words, of_places = heads.attention(tf.constant(images), tf.constant(texts))
    table = triplets.table.iloc[chosen]
    found = []
    for number, row in enumerate(table.itertuples()):
        words = _words(encoder, row.wish)
        found.append(
            AttentionExample(
                seen.paths[row.reference_id],
                words,
                over_words.numpy()[number, :, : len(words)],
                of_places.numpy()[number],
                seen.image_encoder.places,
                seen.image_encoder.resize == "pad",
            )
        )
    return found


def _words(encoder: TextEncoder, text: str) -> list[str]:
    """The tokens that the encoder reads; numbers where they have no names."""
    ids = encoder.tokenize(tf.constant([text]))[0].numpy()
    named = getattr(encoder.tokenizer, "id_to_token", str)
    return [named(int(number)) for number in ids]
