"""A run with a fusion on a few edited scenes, untrained, and an index of its pictures.

The weights are random, so that every part of a query counts and no training is needed.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from twinlens.composed_experiment import ComposedExperiment
from twinlens.config import load_config
from twinlens.data import edited_scenes
from twinlens.data.edited_scenes import Families
from twinlens.runs import start_run
from twinlens.search import build_index, items_of_triplets, open_model
from twinlens.target_loss import TargetLoss
from twinlens.training.build import build_composed_heads

FEW = {"train": Families(4, 4, 6), "val": Families(2, 4, 4), "test": Families(2, 6, 8)}
TOKENS = [
    "data.reader=edited_scenes",
    "image_encoder.pooling=tokens",
    "image_encoder.grid=2",
    "text_encoder.pooling=tokens",
    "fusion.name=attention",
    "fusion.hidden_dim=8",
    "fusion.place_dim=4",
    "fusion.attention_dim=4",
    "evaluation.ks=[1, 5, 10, 50]",
]


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """The run's folder, its settings, its experiment, its model and its index."""
    home = tmp_path_factory.mktemp("composed")
    settings = [*tiny.tiny_settings(home / "scenes", home), *TOKENS]
    config = load_config(None, settings)
    few = partial(edited_scenes.read_edited_scenes, image_size=32, families=FEW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edited_scenes, "read_edited_scenes", few)
        patch.setattr("twinlens.experiment.image_encoder", tiny._image_encoder)
        patch.setattr("twinlens.experiment.text_encoder", tiny._text_encoder_of)
        experiment = ComposedExperiment(config)
        folder = start_run(config, 1).folder
        untrained(experiment).save(folder / "heads.keras")
        model = open_model(folder)
        items = items_of_triplets(experiment.data)
        index = build_index(model, items, folder / "index")
        yield SimpleNamespace(
            folder=folder,
            settings=[part for each in settings for part in ("--set", each)],
            experiment=experiment,
            model=model,
            index=index,
        )


def untrained(experiment):
    """Heads whose weights are random everywhere, also where training starts at zero."""
    train = experiment.triplets("train", "")
    shapes = (train.image_shape, train.text_shape)
    heads = build_composed_heads(*shapes, experiment.config, TargetLoss())
    random = np.random.default_rng(0)
    for weight in heads.trainable_variables:
        weight.assign(random.normal(0, 0.5, weight.shape))
    return heads
