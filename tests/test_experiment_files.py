"""The experiment files that come with the project: they load, and name what exists."""

from pathlib import Path

import keras_hub
import pytest

from twinlens.composed_experiment import open_experiment
from twinlens.config import load_config
from twinlens.encoders import image_encoder
from twinlens.errors import InputError
from twinlens.sweep import combinations, read_sweep

FOLDER = Path(__file__).parents[1] / "experiments"
SWEEPS = [path for path in FOLDER.glob("*.toml") if "[axes" in path.read_text("utf-8")]
FILES = sorted(set(FOLDER.glob("*.toml")) - set(SWEEPS))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_loads_and_its_data_fits_its_heads(path):
    config = load_config(path)
    assert config.name in path.stem or path.stem.startswith(config.name)
    open_experiment(config)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_loads_with_all_of_its_combinations(path):
    found = list(combinations(read_sweep(path), path, []))
    assert len(found) > 1
    for _, config in found:
        open_experiment(config)


def test_the_fusions_are_compared_in_one_sweep():
    path = FOLDER / "fusions.toml"
    found = [
        (labels, config) for labels, config in combinations(read_sweep(path), path, [])
    ]
    names = [config.fusion.name for _, config in found]
    assert names == ["image", "text", "sum", "combiner", "attention"]
    assert [labels["fusion"] for labels, _ in found] == names


def test_fashioniq_names_presets_that_there_are():
    config = load_config(FOLDER / "fashioniq.toml")
    presets = keras_hub.models.ViTBackbone.presets
    assert config.image_encoder.weights in presets
    assert config.text_encoder.weights in keras_hub.models.BertBackbone.presets
    experiment = open_experiment(config)
    with pytest.raises(InputError, match="fashioniq"):
        _ = experiment.data  # the pictures are the user's to bring


def test_fashioniq_sees_49_places(tmp_path):
    """Of a vision transformer of the preset's sizes, but shallow and narrow."""
    sizes = {"image_shape": (224, 224, 3), "patch_size": 16, "num_layers": 5}
    backbone = keras_hub.models.ViTBackbone(
        **sizes, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    backbone.save_to_preset(tmp_path)
    scaling = {"scale": 1 / 127.5, "offset": -1}
    converter = keras_hub.layers.ViTImageConverter(image_size=(224, 224), **scaling)
    converter.save_to_preset(tmp_path)
    weights = f"image_encoder.weights={tmp_path}"
    config = load_config(FOLDER / "fashioniq.toml", [weights])
    encoder = image_encoder(**config.image_encoder.model_dump())
    assert encoder.feature_shape == (49, 16) and encoder.places == (7, 7)
    assert encoder.model.output_shape == (None, 49, 16)
