"""Encoders behind `hub:`: features, training, `.keras` files, refusals."""

import functools
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from fine_tuned import started
from saved_models import (
    LENGTH,
    SIZE,
    WORDS,
    save_bert,
    save_picture,
    save_preprocessor,
    save_reusable,
    save_signature,
)
from tiny import draw_data

from twinlens.config import HeadSettings
from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.base import blocks
from twinlens.features import encode_images, encode_texts
from twinlens.losses import InfoNCELoss
from twinlens.model import DualEncoder
from twinlens.training.build import build_heads
from twinlens.training.finetune import FineTuner
from twinlens.training.parts import Part, mark
from twinlens.training.raw import Batch

TEXTS = ["a red disc", "blue", "a blue square a red disc", ""]
LONG = "a red disc a blue square a red disc"
opened = functools.cache(text_encoder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """SavedModels by their names."""
    home = tmp_path_factory.mktemp("hub")
    return {
        "vector": save_picture(home / "vector"),
        "grid": save_picture(home / "grid", grid=True),
        "signature": save_signature(home / "signature"),
        "reusable": save_reusable(home / "reusable"),
        "other": save_picture(home / "other", seed=1),
        "bert": save_bert(home / "bert"),
        "words": save_preprocessor(home / "words"),
    }


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (4, SIZE, SIZE, 3)).astype("float32")


def pictures(folder, **settings):
    return image_encoder(f"hub:{folder}", **settings)


def texts_of(folders, **settings):
    settings = {"preprocessor": folders["words"], "sequence_length": 8} | settings
    return opened(f"hub:{folders['bert']}", **settings)


def called(folder, pixels):
    """The SavedModel itself, on pixels from 0 to 1."""
    loaded = tf.saved_model.load(folder)
    scaled = tf.constant(pixels / 255)
    return (
        loaded(scaled)
        if callable(loaded)
        else loaded.signatures["serving_default"](scaled)["default"]
    )


def values(model):
    return [each.numpy() for each in model.weights]


def moved(model, before):
    """The names of the weights that are no longer what they were."""
    names = [each.path.split("/")[-1].partition("_")[2] for each in model.weights]
    pairs = zip(names, values(model), before, strict=True)
    return {name for name, now, then in pairs if (now != then).any()}


# === Pictures ===


@pytest.mark.parametrize("kind", ["vector", "signature", "reusable"])
def test_features_are_what_the_saved_model_gives_for_pixels_up_to_one(
    folders, pixels, kind
):
    made = pictures(folders[kind])
    assert made.image_size == SIZE and made.feature_dim == 5
    found = made.model(pixels, training=False).numpy()
    assert found.std() > 0.001
    np.testing.assert_allclose(found, called(folders[kind], pixels), atol=1e-6)


@pytest.mark.parametrize("pooling", ["auto", "max"])
def test_a_grid_is_pooled(folders, pixels, pooling):
    made = pictures(folders["grid"], pooling=pooling)
    grid = called(folders["grid"], pixels).numpy()
    expected = grid.max((1, 2)) if pooling == "max" else grid.mean((1, 2))
    np.testing.assert_allclose(made.model(pixels), expected, atol=1e-6)
    assert made.description["pooling"] == {"auto": "avg", "max": "max"}[pooling]


def test_a_saved_model_that_takes_any_size_takes_the_one_that_is_set(tmp_path, pixels):
    spec = tf.TensorSpec([None, None, None, 3])
    folder = save_picture(tmp_path / "any", spec=spec)
    assert pictures(folder).image_size == 224
    made = pictures(folder, image_size=SIZE)
    np.testing.assert_allclose(made.model(pixels), called(folder, pixels), atol=1e-6)


def test_joined_saved_models_are_side_by_side(folders, pixels):
    names = [folders["vector"], folders["grid"]]
    joined = image_encoder(tuple(f"hub:{each}" for each in names), weights="")
    alone = [pictures(each).model(pixels) for each in names]
    both = np.concatenate(alone, axis=1)
    np.testing.assert_allclose(joined.model(pixels), both, atol=1e-6)
    assert len(blocks(joined.model, joined.block_end)) == 2


def test_the_same_file_has_the_same_description_and_other_weights_another(folders):
    made = pictures(folders["vector"]).description
    assert made == pictures(folders["vector"]).description
    other = pictures(folders["other"]).description
    assert made["weights"] != other["weights"]


def test_frozen_pictures_are_cached(folders, tmp_path, pixels):
    draw_data(tmp_path / "data", pictures=4)
    paths = {path.stem: str(path) for path in (tmp_path / "data").glob("*.png")}
    made = pictures(folders["vector"])
    found = encode_images(made, paths, cache=tmp_path / "features")
    assert found.values.shape == (4, 5) and found.values.std() > 0.001
    made.model.trainable = True
    with pytest.raises(ValueError, match="Only a frozen encoder can be cached"):
        encode_images(made, paths, cache=tmp_path / "features")


# === Texts ===


def test_tokens_are_those_of_the_preprocessor_cut_with_the_end_kept(folders):
    made = texts_of(folders)
    words = [[WORDS.index(each) for each in text.split()] for text in TEXTS]
    expected = [[2, *row, 3] for row in words]
    assert made.tokenize(tf.constant(TEXTS)).to_list() == expected
    (cut,) = made.tokenize(tf.constant([LONG])).to_list()
    assert cut == [2, *[WORDS.index(each) for each in LONG.split()[:6]], 3]


@pytest.mark.parametrize("pooling", ["auto", "cls", "max", "pooler"])
def test_a_text_is_pooled_from_what_the_encoder_gives_for_its_own_tokens(
    folders, pooling
):
    made = texts_of(folders, pooling=pooling)
    assert made.description["pooling"] == pooling.replace("auto", "mean")
    tokens = tf.saved_model.load(folders["words"])(tf.constant(TEXTS))
    outputs = tf.saved_model.load(folders["bert"])(tokens)
    states, mask = outputs["sequence_output"].numpy(), tokens["input_mask"].numpy()
    rows = [row[kept == 1] for row, kept in zip(states, mask, strict=True)]
    expected = {
        "auto": [row.mean(0) for row in rows],
        "cls": states[:, 0],
        "max": [row.max(0) for row in rows],
        "pooler": outputs["pooled_output"],
    }[pooling]
    inputs = made.inputs_of(tf.constant(TEXTS))
    assert inputs["token_ids"].shape[1] < LENGTH  # no more padding than needed
    np.testing.assert_allclose(made.model(inputs), np.stack(expected), atol=1e-6)


def test_layers_below_the_last_are_the_encoders_outputs(folders):
    inputs = texts_of(folders).inputs_of(tf.constant(TEXTS))
    joined = texts_of(folders, layer=(0, 1)).model(inputs)
    alone = [texts_of(folders, layer=layer).model(inputs) for layer in (-2, -1)]
    np.testing.assert_allclose(joined, np.concatenate(alone, axis=1), atol=1e-6)


def test_frozen_texts_are_cached_and_a_preprocessor_is_part_of_the_key(
    folders, tmp_path
):
    made = texts_of(folders)
    found = encode_texts(made, TEXTS, cache=tmp_path / "features")
    inputs = made.inputs_of(tf.constant(list(found.ids)))
    np.testing.assert_allclose(found.values, made.model(inputs), atol=1e-6)
    copies = [shutil.copytree(folders["words"], str(tmp_path / n)) for n in "ab"]
    (tmp_path / "b" / "assets" / "more.txt").write_text("others")
    same, other = (texts_of(folders, preprocessor=copy) for copy in copies)
    assert same.description == made.description != other.description


# === Training ===


def test_a_frozen_saved_model_stays_as_it_is_statistics_too(folders, pixels):
    made = pictures(folders["vector"])
    before = values(made.model)
    still = made.model(pixels, training=True)
    assert not moved(made.model, before)
    np.testing.assert_array_equal(still, made.model(pixels, training=False))
    made.model.trainable = True
    made.model(pixels, training=True)
    assert moved(made.model, before) == {"norm_mean"}


def test_a_gradient_is_that_of_the_saved_model(folders, pixels):
    made = pictures(folders["signature"])
    made.model.trainable = True
    loaded = tf.saved_model.load(folders["signature"])
    kernel, dense, _ = made.model.weights
    own = [loaded.module.kernel, loaded.module.dense]
    with tf.GradientTape(persistent=True) as tape:
        found = made.model(pixels, training=True)
        expected = loaded.signatures["serving_default"](tf.constant(pixels / 255))
    for mine, its in zip((kernel.value, dense.value), own, strict=True):
        gradient = tape.gradient(found, mine)
        assert np.abs(gradient).max() > 0
        its = tape.gradient(expected["default"], its)
        np.testing.assert_allclose(gradient, its, rtol=1e-4, atol=1e-6)


def test_only_what_the_saved_model_calls_trainable_trains(folders):
    made = pictures(folders["reusable"])
    assert made.model.trainable_weights == []
    assert len(blocks(made.model, made.block_end)) == 1
    made.model.trainable = True
    (only,) = made.model.trainable_weights
    assert only.path.endswith("dense_kernel") and len(made.model.weights) == 3


# === Files ===


def dual_encoder(folders):
    """A dual encoder of SavedModels, which trains, and a batch for it."""
    images, texts = pictures(folders["vector"]), texts_of(folders)
    for each in (images, texts):
        mark(each.model, learns=True, normalises=False)
    settings = HeadSettings(embedding_dim=4, hidden_dim=8)
    heads = build_heads(5, texts.feature_dim, settings, InfoNCELoss(), seed=0)
    model = DualEncoder(images.model, texts.model, heads)
    random = np.random.default_rng(0)
    batch = Batch(
        tf.constant(random.uniform(0, 255, (4, SIZE, SIZE, 3)), tf.float32),
        texts.inputs_of(tf.constant(TEXTS)),
        tf.constant(np.stack([np.arange(4)] * 2, axis=1), tf.int32),
    )
    return model, batch


LOADS = """
import sys
import numpy as np
from twinlens.training.phase2 import load_model

model = load_model(sys.argv[1])
with np.load(sys.argv[2]) as given:
    tokens = {name: given[name] for name in given if name != "pixels"}
    logits = model((given["pixels"], tokens))
np.save(sys.argv[3], logits)
model.save(sys.argv[4])
"""


@pytest.mark.slow
def test_both_towers_learn_and_need_no_folder_in_another_process(tmp_path, folders):
    own = {
        name: shutil.copytree(folders[name], str(tmp_path / name))
        for name in ("vector", "bert", "words")
    }
    model, batch = dual_encoder(own)
    inputs = (batch.pixels, batch.tokens)
    before = values(model.image_model), values(model.text_model)
    part = Part("all", model.trainable_weights, keras.optimizers.SGD(0.1))
    FineTuner(model, InfoNCELoss(), [part]).step(lambda: [batch], 1)
    of_images = {"conv_kernel", "dense_kernel", "norm_mean"}  # statistics, too
    assert moved(model.image_model, before[0]) == of_images
    assert moved(model.text_model, before[1]) == {"embeddings", "dense_kernel"}

    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "in.npz", pixels=batch.pixels, **batch.tokens)
    for folder in own.values():
        shutil.rmtree(folder)
    files = ["model.keras", "in.npz", "out.npy", "again.keras"]
    process = started(LOADS, *(tmp_path / name for name in files))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5)
    again = keras.saving.load_model(tmp_path / "again.keras")
    np.testing.assert_allclose(again(inputs), expected, rtol=1e-5)
