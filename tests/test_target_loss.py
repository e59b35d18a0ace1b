"""The loss of composed queries: by hand, against Keras, and which pictures count."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twinlens.composed import marks
from twinlens.target_loss import TargetLoss

PICTURES = st.integers(1, 12).flatmap(
    lambda count: arrays(np.int32, count, elements=st.integers(0, 5))
)


def losses(y_true, y_pred, **settings):
    made = TargetLoss(**settings)
    return made.call(np.array(y_true, "f"), np.array(y_pred, "f")).numpy()


def test_two_queries_by_hand():
    """exp of the logits is 3, 1 and 1, 4: three of four, one of five."""
    found = losses([[1, 0], [1, 0]], np.log([[3.0, 1], [1, 4]]))
    np.testing.assert_allclose(found, [math.log(4 / 3), math.log(5)], rtol=1e-6)


def test_a_picture_that_does_not_count_is_no_negative():
    found = losses([[1, 0, -1]], np.log([[3.0, 1, 1000]]))
    np.testing.assert_allclose(found, [math.log(4 / 3)], rtol=1e-6)


def test_smoothing_by_hand():
    """0.4 of 1 spread over two that count: targets 0.8 and 0.2."""
    found = losses([[1, 0, -1]], np.log([[3.0, 1, 9]]), label_smoothing=0.4)
    expected = -0.8 * math.log(3 / 4) - 0.2 * math.log(1 / 4)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_repeated_pictures_it_is_keras_cross_entropy(smoothing, random):
    logits = 5 * random.normal(size=(7, 9))
    right = np.eye(9)[random.integers(0, 9, 7)]
    expected = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing
    )(right, logits)
    found = TargetLoss(label_smoothing=smoothing)(right, logits)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_whoever_cannot_tell_pictures_apart_scores_the_chance_level():
    y_true = [[1, 0, 0, -1], [0, 0, 1, -1]]
    found = losses(y_true, np.full((2, 4), 7.0), label_smoothing=0.1)
    np.testing.assert_allclose(found, TargetLoss().chance_level(3), rtol=1e-6)


def test_large_logits_stay_finite():
    assert np.isfinite(losses([[1, 0, -1]], [[-100.0, 100, 100]])).all()


def test_it_is_made_again_from_its_settings():
    config = TargetLoss(0.2, 0.1).get_config()
    assert TargetLoss.from_config(config).get_config() == config
    assert config["temperature"] == 0.2 and config["label_smoothing"] == 0.1


# === Which pictures count ===


def slow_marks(targets, numbers):
    found = np.zeros((len(targets), len(numbers)))
    for column, number in enumerate(numbers):
        for row, target in enumerate(targets):
            if number in numbers[:column]:
                found[row, column] = -1
            elif number == target:
                found[row, column] = 1
    return found


@given(PICTURES, st.data())
def test_marks_are_those_of_a_slow_loop(numbers, data):
    targets = data.draw(arrays(np.int32, 4, elements=st.sampled_from(list(numbers))))
    found = marks(targets, numbers).numpy()
    np.testing.assert_array_equal(found, slow_marks(targets, numbers))
    assert ((found == 1).sum(1) == 1).all()  # each query has its one target


@given(PICTURES, st.integers(0, 2**31))
def test_a_picture_that_comes_again_changes_no_loss(numbers, seed):
    """The loss over a batch's pictures is that over its distinct pictures."""
    random = np.random.default_rng(seed)
    distinct, rows = np.unique(numbers, return_inverse=True)
    logits = random.normal(size=(4, len(distinct)))
    targets = random.choice(distinct, 4)
    once = losses(marks(targets, distinct).numpy(), logits)
    again = losses(marks(targets, numbers).numpy(), logits[:, rows])
    np.testing.assert_allclose(again, once, rtol=1e-5, atol=1e-6)


def test_a_target_of_two_queries_is_a_negative_of_neither():
    found = marks(np.array([5, 5, 6]), np.array([5, 6, 7])).numpy()
    np.testing.assert_array_equal(found, [[1, 0, 0], [1, 0, 0], [0, 1, 0]])
