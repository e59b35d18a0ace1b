"""Frozen batch normalisation goes into the convolutions and changes nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from twinlens.encoders import image_encoder
from twinlens.training.folding import Folded, fold
from twinlens.training.parts import mark

SIZE = 75


@pytest.fixture(scope="module")
def tower():
    """InceptionV3's first blocks with statistics and offsets that matter."""
    made = image_encoder(weights="none", layer="mixed0", image_size=SIZE).model
    random = np.random.default_rng(0)
    for layer in made._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            beta, mean, variance = layer.weights
            beta.assign(random.normal(size=beta.shape) / 10)
            mean.assign(random.normal(size=mean.shape) / 100)
            variance.assign(random.uniform(0.001, 0.1, variance.shape))
    return made


@pytest.fixture(scope="module")
def pixels():
    values = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3))
    return tf.constant(values, tf.float32)


def gradients(run, weights, pixels):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(run(pixels, training=True) ** 2)
    return [g.numpy() for g in tape.gradient(loss, [w.value for w in weights])]


def test_a_folded_tower_gives_the_same_features_and_gradients(tower, pixels):
    mark(tower, learns=True, normalises=False)
    folded = fold(tower)
    (inner,) = folded._inside.values()
    assert len(inner._normalised) == 12  # every convolution up to the first block
    expected = tower(pixels, training=True).numpy()
    np.testing.assert_allclose(
        folded(pixels, training=True), expected, atol=1e-5 * np.abs(expected).max()
    )
    weights = tower.trainable_weights
    pairs = zip(
        gradients(tower, weights, pixels),
        gradients(folded, weights, pixels),
        strict=True,
    )
    for one, other in pairs:
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())


def test_normalisation_that_learns_stays_as_it_is(tower):
    mark(tower, learns=True, normalises=True)
    assert fold(tower) is tower


def small(activation=None, twice=False, kind=keras.layers.Conv2D):
    inputs = keras.Input((8, 8, 3))
    grid = kind(4, 3, activation=activation)(inputs)
    norm = keras.layers.BatchNormalization()
    outputs = norm(grid)
    if twice:
        outputs = keras.layers.Add()([outputs, grid])
    norm.trainable = False
    return keras.Model(inputs, outputs)


def test_a_convolution_with_bias_and_scale_folds():
    model = small()
    random = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1, weight.shape))
    grid = tf.constant(random.normal(size=(2, 8, 8, 3)), tf.float32)
    folded = fold(model)
    assert isinstance(folded, Folded)
    np.testing.assert_allclose(folded(grid), model(grid), atol=1e-5)


def test_dropout_inside_knows_whether_it_trains():
    inputs = keras.Input((8, 8, 3))
    grid = keras.layers.Dropout(0.5)(small()(inputs))
    folded = fold(keras.Model(inputs, grid))
    ones = tf.ones((4, 8, 8, 3))
    assert isinstance(folded, Folded)
    assert 0.3 < np.mean(folded(ones, training=True) == 0) < 0.7
    assert np.mean(folded(ones, training=False) == 0) == 0


def test_sequences_inside_stay_whole():
    inputs = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    model = keras.Model(inputs, inner(small()(inputs)))
    grid = tf.random.stateless_normal((2, 8, 8, 3), (1, 2))
    np.testing.assert_allclose(fold(model)(grid), model(grid), atol=1e-5)


def test_a_convolution_that_is_tapped_is_not_normalised():
    model = small()
    convolution, norm = model.layers[1:]
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    tapped = keras.Model(model.input, [convolution.output, norm.output])
    assert fold(tapped) is tapped


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "relu"},
        {"twice": True},
        {"kind": keras.layers.Conv2DTranspose},
    ],
)
def test_what_cannot_be_folded_is_left(settings):
    model = small(**settings)
    assert fold(model) is model
