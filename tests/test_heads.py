"""Heads: unit vectors, statistics that travel with them, saving and loading."""

import keras
import numpy as np
import pytest

from twinlens.heads import (
    Dropout,
    ProjectionHead,
    Similarity,
    Standardise,
    unit_vectors,
)
from twinlens.model import Heads

FORMS = [
    {"form": "residual", "depth": 2},
    {"form": "residual", "depth": 0},
    {"form": "prototype"},
]


def built_head(dim=6, **settings):
    head = ProjectionHead(embedding_dim=4, hidden_dim=8, **settings)
    head.build((None, dim))
    return head


def built_heads():
    heads = Heads(built_head(6), built_head(5, seed=1), Similarity(0.1))
    heads.build(((None, 6), (None, 5)))
    return heads


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_embeddings_have_length_one(settings, random):
    embedded = np.array(built_head(**settings)(random.normal(size=(7, 6)) * 1e-3))
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)


def test_a_linear_head_is_one_matrix_product(random):
    head = built_head(depth=0)
    features = random.normal(size=(3, 6)).astype("float32")
    kernel, bias = head.project.get_weights()
    expected = features @ kernel + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(head(features), expected, rtol=1e-5)


def test_a_residual_block_by_hand(random):
    from scipy.special import erf

    head = built_head(depth=1, dropout=0.5)
    x = random.normal(size=(3, 6)) @ head.enter.get_weights()[0]
    norm = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    gelu = norm * (1 + erf(norm / np.sqrt(2))) / 2
    x = x + gelu @ head.blocks[0].layers[-1].get_weights()[0]
    x = x @ head.project.get_weights()[0]
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    random = np.random.default_rng(0)
    found = head(random.normal(size=(3, 6)).astype("float32"), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_prototype_form_ends_in_a_layer_norm(random):
    """Mean zero over the numbers of an embedding, before and after scaling."""
    embedded = np.array(built_head(form="prototype")(random.normal(size=(5, 6))))
    np.testing.assert_allclose(embedded.mean(axis=1), 0, atol=1e-6)


def test_standardising_makes_an_embedding_independent_of_shift_and_scale(random):
    features = random.normal(size=(50, 6)).astype("float32")
    outputs = []
    for scale, shift in ((1.0, 0.0), (1e-4, 3e-4), (1e5, -7e5)):
        head = built_head(seed=3)
        scaled = (features * scale + shift).astype("float32")
        head.standardise.adapt(scaled.mean(axis=0), scaled.std(axis=0))
        outputs.append(np.array(head(scaled)))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-3)
    np.testing.assert_allclose(outputs[0], outputs[2], atol=1e-3)


def test_a_feature_that_never_changes_becomes_zero():
    layer = Standardise()
    layer.build((None, 2))
    layer.adapt(np.array([5.0, 1.0]), np.array([0.0, 2.0]))
    np.testing.assert_array_equal(
        layer(np.array([[5.0, 3.0], [6.0, 1.0]])), [[0, 1], [0, 0]]
    )


def test_dropout_acts_in_training_only(random):
    head = built_head(dropout=0.5, input_dropout=0.5)
    features = random.normal(size=(4, 6)).astype("float32")
    np.testing.assert_array_equal(head(features), head(features))
    first, second = (np.array(head(features, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_everywhere_and_keeps_the_mean(rate):
    """Shares by row, by column and over steps, within five standard deviations."""
    layer = Dropout(rate, seed=1)
    layer.build((None, 300))
    ones = np.ones((400, 300), "float32")
    masks = np.stack([layer(ones, training=True) for _ in range(40)]) == 0
    for axes in ((0, 1), (0, 2), (1, 2), (0, 1, 2), (0,)):
        shares = masks.mean(axis=axes)
        count = masks.size / shares.size
        limit = 5.5 * np.sqrt(rate * (1 - rate) / count)
        assert np.abs(shares - rate).max() < limit
    kept = np.array(layer(ones, training=True))
    np.testing.assert_allclose(kept[kept > 0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_masks_of_neighbours_steps_and_seeds_are_unrelated():
    def masks(seed):
        layer = Dropout(0.5, seed)
        layer.build((None, 64))
        return [np.array(layer(np.ones((500, 64)), training=True)) for _ in range(3)]

    one, two = masks(0), masks(1)
    pairs = [
        (one[0], one[1]),
        (one[1], one[2]),
        (one[0], two[0]),
        (one[0][:, 1:], one[0][:, :-1]),
        (one[0][1:], one[0][:-1]),
    ]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03  # five deviations


def test_a_zero_vector_stays_zero_instead_of_becoming_nan():
    np.testing.assert_array_equal(unit_vectors(np.zeros((1, 3))), np.zeros((1, 3)))


def test_the_scale_is_one_over_temperature_and_never_above_100():
    similarity = Similarity(temperature=0.05)
    similarity.build(None)
    assert float(similarity.scale()) == pytest.approx(20)
    similarity.log_scale.assign(50.0)
    assert float(similarity.scale()) == pytest.approx(100)


def test_a_bias_is_added_to_every_logit():
    similarity = Similarity(temperature=1.0, bias=-10.0)
    similarity.build(None)
    np.testing.assert_allclose(similarity(np.eye(2), np.eye(2)), [[-9, -10], [-10, -9]])


def test_a_fixed_temperature_has_nothing_to_train():
    similarity = Similarity(1.0, learn=False)
    similarity.build(None)
    assert not similarity.trainable_weights


def test_logits_are_scaled_cosines(random):
    heads = built_heads()
    pair = random.normal(size=(3, 6)), random.normal(size=(2, 5))
    images, texts = heads.image_head(pair[0]), heads.text_head(pair[1])
    expected = 10 * np.array(images) @ np.array(texts).T
    np.testing.assert_allclose(heads(pair), expected, rtol=1e-4, atol=1e-5)


def test_training_logits_can_carry_the_towers_own_cosines(random):
    heads = built_heads()
    pair = random.normal(size=(3, 6)), random.normal(size=(3, 5))
    logits, images, texts = np.split(
        np.array(heads.training_logits(pair, with_similarities=True)), 3, axis=1
    )
    np.testing.assert_allclose(np.diagonal(images), 1, rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(texts), 1, rtol=1e-5)
    assert np.abs(logits).max() <= 10 + 1e-4


def test_heads_are_saved_and_loaded_with_their_statistics(tmp_path, random):
    heads = built_heads()
    heads.image_head.standardise.adapt(np.arange(6.0), np.arange(1.0, 7.0))
    heads.save(tmp_path / "heads.keras")
    again = keras.saving.load_model(tmp_path / "heads.keras", safe_mode=True)
    pair = random.normal(size=(3, 6)), random.normal(size=(2, 5))
    np.testing.assert_array_equal(heads(pair), again(pair))


def test_equal_seeds_give_equal_heads_and_others_do_not(random):
    features = random.normal(size=(2, 6))
    one, same, other = (np.array(built_head(seed=s)(features)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
