"""The list of encoders, and the networks of keras.applications behind it."""

import functools
import importlib

import keras
import numpy as np
import pytest
from tiny import run

from twinlens import catalogue
from twinlens.encoders import IMAGE_ENCODERS, TEXT_ENCODERS, image_encoder
from twinlens.encoders.applications import APPLICATIONS
from twinlens.encoders.base import blocks, normalisations
from twinlens.encoders.bert_family import BERT_FAMILIES
from twinlens.encoders.sizes import BASE_SIZES, PICTURE_SIZES

SIZES = {  # pixels a side; the least that InceptionV3 takes is 75
    "inception_v3": 75,
    "resnet50": 64,
    "mobilenet": 64,
    "mobilenet_v2": 64,
    "efficientnet_v2_b0": 64,
    "convnext_tiny": 64,
}
PREPROCESSING = {  # module of `keras.applications`
    "resnet50": "resnet",
    "efficientnet_v2_b0": "efficientnet_v2",
    "convnext_tiny": "convnext",
}


# === The networks ===


def pictures(size):
    random = np.random.default_rng(1)
    return random.uniform(0, 255, (32, size, size, 3)).astype("float32")


@functools.cache
def encoder(name):
    """With weights that no layer ignores: Keras' first ones are often 0 or 1."""
    made = image_encoder(name, weights="none", image_size=SIZES[name])
    random = np.random.default_rng(0)
    for layer in made.model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            continue  # of its pixels: constants
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            if len(weight.shape) == 1 and weight.dtype == "float32":
                weight.assign_add(random.uniform(-0.3, 0.3, weight.shape))
    found = normalisations(made.model)
    made.model.trainable = True
    for layer in found:
        layer.momentum = 0.0
    if found:  # or features would hardly differ; of few pictures noise would grow
        made.model(pictures(SIZES[name]), training=True)
    made.model.trainable = False
    return made


def built(entry, image_size, **arguments):
    build = getattr(keras.applications, entry.build)
    shape = (image_size, image_size, 3)
    return build(include_top=False, weights=None, input_shape=shape, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_features_are_those_of_the_plain_keras_network(name):
    made, pixels = encoder(name), pictures(SIZES[name])[:4]
    plain = built(APPLICATIONS[name], SIZES[name], pooling="avg")
    plain.set_weights(made.model.get_weights())
    module = importlib.import_module(
        f"keras.applications.{PREPROCESSING.get(name, name)}"
    )
    expected = plain(module.preprocess_input(pixels.copy()), training=False).numpy()
    spread = np.abs(expected - expected.mean(axis=0)).max()  # between pictures
    assert spread > 0.01 * np.abs(expected).max()
    found = made.model(pixels, training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * spread)
    assert (plain.count_params(), found.shape[1]) == PICTURE_SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_every_weight_is_in_one_of_several_blocks(name):
    made = encoder(name)
    found = blocks(made.model, made.block_end)
    assert len(found) > 1
    weights = [id(w) for block in found for layer in block for w in layer.weights]
    assert sorted(weights) == sorted(id(weight) for weight in made.model.weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_sizes_are_those_of_the_network(name):
    entry = APPLICATIONS[name]
    with keras.StatelessScope(initialize_variables=False):  # counts need no values
        network = built(entry, entry.image_size)
    found = (network.count_params(), network.output_shape[-1])
    assert found == PICTURE_SIZES[name]
    assert len(catalogue.block_ends(name)) > 1


@pytest.mark.parametrize("name", BASE_SIZES)
def test_sizes_of_text_networks_are_those_of_the_base_size(name):
    import keras_hub

    sizes = {  # as `config.json` of each network's base size says
        "vocab_size": {"roberta": 50265, "xlm_roberta": 250002, "albert": 30000},
        "max_position_embeddings": {"roberta": 514, "xlm_roberta": 514},
    }
    config = {
        **{"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768},
        **{"n_layers": 6, "n_heads": 12, "dim": 768, "hidden_dim": 3072},
        **{"intermediate_size": 3072, "type_vocab_size": 2, "pad_token_id": 1},
        **{"hidden_dropout_prob": 0.1, "dropout": 0.1, "model_type": name},
        "embedding_size": 128 if name == "albert" else 768,
        **{"num_hidden_groups": 1, "inner_group_num": 1},
        "vocab_size": sizes["vocab_size"].get(name, 30522),
        "max_position_embeddings": sizes["max_position_embeddings"].get(name, 512),
    }
    family = BERT_FAMILIES[name]
    backbone = getattr(keras_hub.models, f"{family.classes}Backbone")
    with keras.StatelessScope(initialize_variables=False):
        network = backbone(**family.sizes(config))
    assert (network.count_params(), network.hidden_dim) == BASE_SIZES[name]
    assert network.max_sequence_length == 512


# === The list ===


def test_every_encoder_has_a_line():
    assert set(PICTURE_SIZES) == set(APPLICATIONS)
    assert set(BASE_SIZES) == set(BERT_FAMILIES)
    assert {*IMAGE_ENCODERS} - {"hub"} <= set(catalogue.PICTURES)
    assert {*TEXT_ENCODERS} - {"hub"} <= set(catalogue.TEXTS)


def test_a_line_without_its_encoder_is_not_shown():
    lines = dict.fromkeys(("vgg16", "later", "hub:HANDLE"), catalogue.KERAS_HUB)
    assert list(catalogue.existing(lines, IMAGE_ENCODERS)) == ["vgg16", "hub:HANDLE"]


def test_the_list_shows_each_encoder_on_one_line():
    said = run("encoders")
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines() if line.strip()]
    shown = [row[0] for row in rows]
    assert not {*IMAGE_ENCODERS, *TEXT_ENCODERS} - {"hub"} - set(shown)
    assert "hub:HANDLE" in shown
    line = rows[shown.index("inception_v3")]
    assert line == "inception_v3 21.8 M 2,048 299 px imagenet, file".split()
    line = rows[shown.index("tfidf")]
    assert line[-2:] == ["captions", "tfidf"]
    assert rows[shown.index("bert")][1:6] == "109.5 M 768 512 tokens".split()


def test_a_picture_network_names_the_layers_that_end_its_blocks():
    said = run("encoders", "inception_v3")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "inception_v3: a picture encoder"
    assert "preprocessing pixels from -1 to 1" in lines
    assert "mixed7 17 x 17 x 768" in lines and "mixed10 8 x 8 x 2048" in lines


def test_a_text_network_names_the_files_of_a_folder():
    out = run("encoders", "roberta").out
    assert "vocab.json, merges.txt, model_type 'roberta'" in out


def test_an_encoder_of_the_hub_is_on_both_sides():
    out = run("encoders", "hub:x:y").out
    assert "hub:x:y: a picture encoder" in out and "hub:x:y: a text encoder" in out


def test_an_unknown_encoder_names_the_nearest():
    said = run("encoders", "resnet51")
    assert said.code == 1
    assert "There is no encoder 'resnet51'. Did you mean resnet50," in said.err
