"""Heads of places and words: against NumPy, and what padding must not change."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_heads import made_images, made_words, scrambled
from scipy.special import erf

from twinlens.attention import AdditiveAttention, EditRound
from twinlens.token_heads import PlaceHead, WordHead, masked_mean

SETTINGS = {"embedding_dim": 4, "hidden_dim": 6, "dropout": 0.0}


def gelu(x):
    """As the activation of a layer is."""
    return x * (1 + erf(x / 2**0.5)) / 2


def quick_gelu(x):
    """As `keras.ops.gelu` is unless told otherwise."""
    return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


def normalised(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * layer.gamma.numpy() + layer.beta.numpy()


def dense(x, layer):
    return x @ layer.kernel.numpy() + layer.bias.numpy()


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def place_head(shape=(None, 4, 5), **more):
    head = PlaceHead(2, **SETTINGS | more)
    head.build(shape)
    return scrambled(head)


def word_head(shape=(None, 6, 3), **more):
    head = WordHead(**SETTINGS | more)
    head.build(shape)
    return scrambled(head)


# === Pictures ===


def test_a_picture_is_what_the_formula_says(random):
    head, images = place_head(), made_images(random, 3)
    mean, deviation = random.normal(size=5), random.uniform(1, 2, 5)
    head.standardise.adapt(mean, deviation)
    tokens = dense((images - mean) / deviation, head.enter) + head.place.numpy()
    narrow = dense(quick_gelu(normalised(tokens, head.normalise)), head.narrow)
    expected = unit(dense(narrow.reshape(3, 8), head.project))
    np.testing.assert_allclose(head(images), expected, rtol=1e-4, atol=1e-5)


def test_a_picture_knows_what_stands_where(random):
    images = made_images(random, 1)
    swapped = images[:, ::-1]
    assert np.abs(place_head()(images) - place_head()(swapped)).max() > 0.01


def test_one_feature_is_one_place(random):
    images = made_images(random, 3, places=1)
    head = place_head((None, 5))
    np.testing.assert_array_equal(head(images[:, 0]), head(images))


# === Words ===


def test_a_text_is_what_the_formula_says(random):
    head, lengths = word_head(), (6, 2)
    texts = made_words(random, lengths)
    rows = []
    for text, length in zip(texts, lengths, strict=True):
        words = dense(text[:length], head.enter)
        ready = quick_gelu(normalised(words, head.normalise))
        said = gelu(dense(ready, head.say))
        rows.append(dense(said.mean(0), head.project))
    np.testing.assert_allclose(head(texts), unit(np.array(rows)), rtol=1e-4, atol=1e-5)


def test_a_longer_padding_changes_nothing(random):
    head, texts = word_head(), made_words(random, (3, 5, 1))
    longer = np.pad(texts, ((0, 0), (0, 7), (0, 0)))
    np.testing.assert_allclose(head(longer), head(texts), atol=1e-6)


def test_padded_words_are_no_tokens_even_after_standardising(random):
    head = word_head()
    head.standardise.adapt(np.full(3, 5.0), np.ones(3))  # zeros become -5
    words, mask = head.tokens(made_words(random, (2, 6)))
    np.testing.assert_array_equal(mask, np.arange(6) < np.array([[2], [6]]))
    assert not words.numpy()[0, 2:].any() and words.numpy()[0, :2].any()


def test_a_word_with_a_zero_in_it_is_a_word():
    _, mask = word_head().tokens(np.array([[[0, 0, 1], [0, 0, 0]]], "float32"))
    np.testing.assert_array_equal(mask, [[1, 0]])


def test_one_vector_is_one_word(random):
    texts = made_words(random, (1, 1), length=1)
    head = word_head((None, 3))
    np.testing.assert_array_equal(head(texts[:, 0]), head(texts))


def test_a_text_without_words_gives_a_number():
    assert np.isfinite(word_head()(np.zeros((1, 6, 3), "float32"))).all()


def test_a_masked_mean_by_hand():
    tokens = np.array([[[1.0, 2], [3, 4], [9, 9]], [[5, 6], [7, 8], [9, 9]]])
    mask = np.array([[1.0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(masked_mean(tokens, mask), [[2, 3], [0, 0]])


@pytest.mark.parametrize("head", [place_head, word_head])
def test_a_head_is_built_again_from_its_settings(head, random):
    made = head(dropout=0.2, input_dropout=0.1, seed=5)
    config = made.get_config()
    again = type(made).from_config(config)
    assert again.get_config() == config
    again.build((None, 4, 5) if head is place_head else (None, 6, 3))
    again.set_weights(made.get_weights())
    shape = (2, 4, 5) if head is place_head else (2, 6, 3)
    features = random.normal(size=shape).astype("float32")
    np.testing.assert_array_equal(again(features), made(features))


def test_dropout_is_for_training_and_seeds_differ(random):
    images = made_images(random, 3)
    head = place_head(dropout=0.5)
    np.testing.assert_array_equal(head(images), head(images))
    assert (head(images, training=True) != head(images, training=True)).numpy().any()
    kernels = [PlaceHead(2, **SETTINGS, seed=seed) for seed in (0, 0, 1)]
    for each in kernels:
        each.build((None, 4, 5))
    first, same, other = (each.enter.kernel.numpy() for each in kernels)
    assert (first == same).all() and (first != other).any()


# === Attention ===


def slow_attention(layer, askers, asked, length):
    """One text's attention, one pair after the other, as Bahdanau et al. write it."""
    scores = np.empty((len(askers), length))
    for i, a in enumerate(askers):
        for j, b in enumerate(asked[:length]):
            inside = dense(a, layer.query) + b @ layer.key.kernel.numpy()
            scores[i, j] = layer.score.numpy() @ np.tanh(inside)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return weights @ dense(asked[:length], layer.value), weights


@pytest.fixture
def attention():
    layer = AdditiveAttention(3, 6, seed=1)
    layer.build((None, None, 5))
    return scrambled(layer)


def test_attention_is_that_of_bahdanau(attention, random):
    askers = made_images(random, 2)
    asked, lengths = made_words(random, (6, 2), dim=5), (6, 2)
    mask = (np.arange(6) < np.array(lengths)[:, None]).astype("float32")
    found, weights = attention(askers, asked, mask)
    for row, length in enumerate(lengths):
        taken, expected = slow_attention(attention, askers[row], asked[row], length)
        np.testing.assert_allclose(found[row], taken, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weights[row, :, :length], expected, rtol=1e-4)
        assert not weights[row, :, length:].numpy().any()
    np.testing.assert_allclose(weights.numpy().sum(-1), 1, rtol=1e-5)


def test_attention_has_no_answer_for_nobody_but_stays_finite(attention, random):
    found, weights = attention(
        made_images(random, 1), np.zeros((1, 6, 5), "float32"), np.zeros((1, 6), "f")
    )
    assert np.isfinite(found).all() and np.isfinite(weights).all()


def test_attention_is_built_again_from_its_settings(attention):
    for layer in (attention, EditRound(3, 0.2, seed=4)):
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config


@pytest.fixture
def edit_round():
    layer = EditRound(3, seed=1)
    layer.build((None, None, 6))
    return layer


def round_inputs(random, lengths=(6, 2)):
    places = made_images(random, len(lengths), dim=6)
    words = made_words(random, lengths, dim=6)
    return places, words, (np.abs(words).sum(-1) > 0).astype("float32")


def test_at_the_start_a_round_changes_no_place(edit_round, random):
    places, words, mask = round_inputs(random)
    np.testing.assert_array_equal(edit_round(places, words, mask)[0], places)


def test_a_round_is_what_the_formula_says(edit_round, random):
    layer = scrambled(edit_round)
    lengths = (6, 2)
    places, words, mask = round_inputs(random, lengths)
    edited, said_words, (over_words, of_places) = layer(places, words, mask)
    for row, length in enumerate(lengths):
        seen = normalised(places[row], layer.seen)
        said = normalised(words[row, :length], layer.said)
        found, looked = slow_attention(layer.look, said, seen, len(seen))
        heard = words[row, :length] + found
        said = normalised(heard, layer.said)
        concerns, listened = slow_attention(layer.listen, seen, said, length)
        whole = said.mean(0) @ layer.of_text.kernel.numpy()
        parts = np.hstack([seen, concerns, seen * concerns])
        change = gelu(dense(parts, layer.change) + whole)
        close = {"rtol": 1e-3, "atol": 1e-4}
        np.testing.assert_allclose(
            edited[row], places[row] + dense(change, layer.apply), **close
        )
        np.testing.assert_allclose(said_words[row, :length], heard, **close)
        np.testing.assert_allclose(over_words[row, :, :length], listened, **close)
        np.testing.assert_allclose(of_places[row], looked.mean(0), **close)
    np.testing.assert_allclose(of_places.numpy().sum(-1), 1, rtol=1e-5)
    assert not said_words.numpy()[1, 2:].any()  # padding stays zero for a next round


def test_all_of_attention_survives_a_file(edit_round, random, tmp_path):
    layer = scrambled(edit_round)
    inputs = [keras.Input((None, 6)), keras.Input((None, 6)), keras.Input((None,))]
    model = keras.Model(inputs, layer(*inputs)[0])
    model.save(tmp_path / "round.keras")
    loaded = keras.saving.load_model(tmp_path / "round.keras")
    made = list(map(tf.constant, round_inputs(random)))
    np.testing.assert_array_equal(loaded(made), model(made))
