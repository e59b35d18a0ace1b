"""Ready pairs: retrieval and classes without training, and both phases on top."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from fine_tuned import encoders_anew
from golden_pairs import LENGTH, PAIRS, TEXTS, folder, golden, pixels
from tiny import run, tiny_settings

from twinlens.config import Config, load_config, to_toml
from twinlens.encoders import image_encoder, text_encoder
from twinlens.errors import InputError
from twinlens.heads import Similarity
from twinlens.model import Heads
from twinlens.zero_shot import class_embeddings, classify, zero_shot

SIZE = 24  # pixels
image = functools.cache(image_encoder)
text = functools.cache(functools.partial(text_encoder, sequence_length=LENGTH))


@functools.cache
def pair(name):
    """Both encoders and the heads."""
    towers = image(name, folder(name)), text(name, folder(name))
    return (*towers, zero_shot(*towers))


@functools.cache
def features(name):
    towers = pair(name)
    inputs = towers[1].inputs_of(tf.constant(TEXTS))
    return towers[0].model(pixels(SIZE)), towers[1].model(inputs)


@pytest.mark.parametrize("name", PAIRS)
def test_logits_are_those_of_transformers(name):
    heads = pair(name)[-1]
    expected = golden(name)["logits"]
    assert np.ptp(expected) > 10
    np.testing.assert_allclose(heads(features(name)), expected, rtol=1e-4, atol=2e-3)
    assert heads.trainable_weights == []


def test_a_scale_above_that_of_training_is_kept():
    assert float(pair("siglip")[-1].similarity.scale()) == pytest.approx(110, rel=1e-5)
    similarity = Similarity(1 / 110)
    similarity.build()
    assert float(similarity.scale()) == 100


def test_heads_of_a_pair_can_be_saved(tmp_path):
    heads = pair("siglip")[-1]
    again = Heads.from_config(heads.get_config())
    again.build(((None, 16), (None, 16)))
    np.testing.assert_allclose(
        again(features("siglip"))[0, 0] - again(features("siglip"))[0, 1],
        heads(features("siglip"))[0, 0] - heads(features("siglip"))[0, 1],
        rtol=1e-4,
    )


def test_encoders_that_are_no_pair_are_refused():
    clip, siglip = pair("clip"), pair("siglip")
    with pytest.raises(InputError, match="one pair, but these are 'clip' and 'siglip'"):
        zero_shot(clip[0], siglip[1])
    with pytest.raises(InputError, match="Set pair.name and pair.weights"):
        zero_shot(image("clip", folder("clip"), pooling="cls"), clip[1])


# === Classes ===


def test_a_class_is_the_mean_of_its_templates():
    _, encoder, heads = pair("clip")
    templates = ("a {} disc", "the {} square")
    found = class_embeddings(["red", "green"], heads, encoder, templates)
    inputs = encoder.inputs_of(tf.constant(["a green disc", "the green square"]))
    each = heads.text_head(encoder.model(inputs)).numpy()
    expected = each.sum(axis=0) / np.linalg.norm(each.sum(axis=0))
    np.testing.assert_allclose(found[1], expected, atol=1e-5)


def test_probabilities_are_the_softmax_of_scaled_cosines():
    pictures, encoder, heads = pair("clip")
    names = ["red", "green", "blue"]
    found = classify(
        pixels(SIZE), names, heads, encoder, ["a {} disc"], image_encoder=pictures
    )
    embedded = heads.image_head(features("clip")[0]).numpy()
    logits = 50 * embedded @ class_embeddings(names, heads, encoder, ["a {} disc"]).T
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    again = classify(embedded, names, heads, encoder, ["a {} disc"])
    np.testing.assert_allclose(again, found, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        (["red"], ["a disc"], "1 templates, of which 'a disc' has no {}"),
        ([], ["a {}"], "Got 0 class names"),
        (["red"], [], "and 0 templates"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(names, templates, message):
    _, encoder, heads = pair("clip")
    with pytest.raises(InputError, match=message):
        classify(np.eye(12), names, heads, encoder, templates)


# === Settings ===


def test_a_pair_sets_both_encoders():
    config = load_config(None, ["pair.name=clip", f"pair.weights={folder('clip')}"])
    for encoder in (config.image_encoder, config.text_encoder):
        assert (encoder.name, encoder.weights) == ("clip", folder("clip"))
        assert encoder.pooling == "projection"
    assert "[pair]" in to_toml(config)
    assert Config.model_validate(config.model_dump()) == config


def test_a_pair_without_weights_is_refused():
    with pytest.raises(InputError, match="pair.name is 'clip', but pair.weights is em"):
        load_config(None, ["pair.name=clip"])


# === Jobs ===


@pytest.fixture(scope="module")
def settings(home, tmp_path_factory):
    out = tmp_path_factory.mktemp("pair")
    changed = [
        "name=pair",
        "pair.name=metaclip_2",
        f"pair.weights={folder('metaclip_2')}",
        "image_encoder.image_size=0",
        f"text_encoder.sequence_length={LENGTH}",
        "data.max_broken_fraction=0.1",
        "phase1.epochs=2",
        "phase2.epochs=1",
        "phase2.batch_size=4",
        "phase2.text_frozen_blocks=1",
        f"models={out / 'models'}",
    ]
    return [*tiny_settings(home.data, out), *changed], out


def words(settings):
    return [part for each in settings for part in ("--set", each)]


@pytest.mark.slow
def test_a_pair_is_measured_without_training(settings):
    said = run("evaluate", "--zero-shot", *words(settings[0]))
    assert said.code == 0, said.err
    assert "recall@1" in said.out and "bootstrap interval" in said.out


@pytest.mark.slow
@pytest.mark.parametrize("image_learning_rate", ["0", "1e-4"])
def test_both_phases_go_on_from_a_pair(settings, image_learning_rate):
    chosen, out = settings
    chosen = [
        *chosen,
        f"name=pair{image_learning_rate}",
        f"phase2.image_learning_rate={image_learning_rate}",
    ]
    said = run("train", "--phase", 1, *words(chosen))
    assert said.code == 0, said.err
    with encoders_anew():
        said = run("train", "--phase", 2, *words(chosen))
    assert said.code == 0, said.err
    assert (out / "runs" / f"pair{image_learning_rate}-phase2" / "model.keras").exists()


def test_evaluate_wants_a_run_or_a_pair():
    for words_ in (["evaluate"], ["evaluate", "some-run", "--zero-shot"]):
        said = run(*words_)
        assert said.code == 1 and "give --zero-shot and the --config" in said.err
