"""Losses by hand on a few pairs, and the rule that twins are never negatives."""

import math

import keras
import numpy as np
import pytest

from twinlens.losses import InfoNCELoss, SigmoidLoss, SoftTargetLoss, TripletLoss

ALL = [
    InfoNCELoss(),
    SigmoidLoss(),
    SoftTargetLoss(),
    TripletLoss(),
    TripletLoss(hardest=True),
]


def ids_of(images, texts=None):
    texts = range(100, 100 + len(images)) if texts is None else texts
    return np.stack([images, list(texts)], axis=1).astype("int32")


def value(loss, ids, logits):
    if loss.needs_similarities:
        logits = np.concatenate([logits, np.eye(len(ids)), np.eye(len(ids))], axis=1)
    return float(loss(ids, np.asarray(logits, "float32")))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([0, 1, 2, 3], math.log(4)),  # four distinct images: one of four candidates
        ([0, 0, 1, 2], (2 * math.log(3) + 2 * math.log(4)) / 4),  # a twin is masked
        ([5, 5, 5, 5], 0.0),  # nothing to tell apart
    ],
)
def test_info_nce_of_equal_logits_is_log_of_candidates(images, expected):
    assert value(InfoNCELoss(), ids_of(images), np.zeros((4, 4))) == pytest.approx(
        expected, abs=1e-6
    )


def test_info_nce_by_hand_on_two_pairs():
    logits = np.array([[2.0, 1.0], [0.0, 3.0]])
    rows = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-3))]
    columns = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-2))]
    expected = (sum(rows) + sum(columns)) / 4
    assert value(InfoNCELoss(), ids_of([0, 1]), logits) == pytest.approx(expected)


def test_label_smoothing_by_hand():
    # Rows [1, 0] and [0, 1]: log p of the hit is -log(1 + 1/e), of the miss 1 less.
    hit = math.log(1 + math.exp(-1))
    expected = 0.8 * hit + 0.2 * (hit + (hit + 1)) / 2
    loss = InfoNCELoss(label_smoothing=0.2)
    assert value(loss, ids_of([0, 1]), np.eye(2)) == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_spreads_only_over_candidates():
    smooth = InfoNCELoss(label_smoothing=0.3)
    logits = np.zeros((3, 3))
    expected = (2 * math.log(2) + math.log(3)) / 3  # rows 0 and 1 are twins
    assert value(smooth, ids_of([7, 7, 8]), logits) == pytest.approx(expected, rel=1e-6)


def test_sigmoid_by_hand_on_two_pairs():
    logits = np.array([[1.0, -2.0], [0.5, 3.0]])
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    expected = (softplus(-1) + softplus(-2) + softplus(0.5) + softplus(-3)) / 2
    assert value(SigmoidLoss(), ids_of([0, 1]), logits) == pytest.approx(expected)


def test_soft_targets_without_likeness_are_info_nce():
    logits = np.random.default_rng(0).normal(size=(4, 4))
    sharp = SoftTargetLoss(temperature=0.001)  # the towers see no likeness: one-hot
    assert value(sharp, ids_of(range(4)), logits) == pytest.approx(
        value(InfoNCELoss(), ids_of(range(4)), logits), rel=1e-5
    )


def test_soft_targets_by_hand_when_pictures_are_alike():
    # Pictures and captions are all alike, so each target is one half.
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    hit = math.log(1 + math.exp(-1))
    y_pred = np.concatenate([logits, np.ones((2, 2)), np.ones((2, 2))], axis=1)
    found = float(SoftTargetLoss()(ids_of([0, 1]), y_pred.astype("float32")))
    assert found == pytest.approx((hit + hit + 1) / 2, rel=1e-6)


def test_soft_targets_have_no_gradient():
    import tensorflow as tf

    logits = tf.constant(np.random.default_rng(0).normal(size=(3, 3)), tf.float32)
    own = tf.Variable(np.random.default_rng(1).normal(size=(3, 6)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = SoftTargetLoss()(ids_of(range(3)), tf.concat([logits, own], axis=1))
    gradient = tape.gradient(loss, own)
    assert gradient is None or not np.any(gradient)


@pytest.mark.parametrize(
    ("hardest", "expected"),
    [
        # margin 0.2; row hinges: 0: 0.2+0.5-0.6, 0.2+0.1-0.6<0; 1: 0.2+0.3-0.4, 0;
        # 2: none over; column hinges: 0: 0; 1: 0.2+0.5-0.4; 2: 0.
        (False, (0.1 + 0.1 + 0.3) / 3),
        (True, (0.1 + 0.1 + 0.3) / 3),
    ],
)
def test_triplet_by_hand(hardest, expected):
    scores = np.array([[0.6, 0.5, 0.1], [0.3, 0.4, -1.0], [0.0, 0.0, 0.9]])
    loss = TripletLoss(0.2, hardest)
    assert value(loss, ids_of([0, 1, 2]), scores) == pytest.approx(expected, rel=1e-5)


def test_the_hardest_triplet_counts_one_miss_where_the_sum_counts_all():
    scores = np.full((4, 4), 0.5)
    assert value(TripletLoss(0.2), ids_of(range(4)), scores) == pytest.approx(6 * 0.2)
    hardest = TripletLoss(0.2, hardest=True)
    assert value(hardest, ids_of(range(4)), scores) == pytest.approx(2 * 0.2)


@pytest.mark.parametrize("loss", ALL, ids=lambda x: f"{x.name}")
@pytest.mark.parametrize("texts", [None, [1, 1, 2]], ids=["same image", "same text"])
def test_twins_are_never_negatives(loss, texts, random):
    """Whatever the logit between twins is, the loss stays the same."""
    ids = ids_of([0, 0, 1]) if texts is None else ids_of([0, 5, 1], texts)
    logits = random.normal(size=(3, 3))
    before = value(loss, ids, logits)
    logits[0, 1], logits[1, 0] = 9.0, -9.0
    assert value(loss, ids, logits) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("loss", ALL, ids=lambda x: x.name)
def test_the_order_of_the_batch_does_not_matter(loss, random):
    ids, logits, order = ids_of([0, 1, 1, 2]), random.normal(size=(4, 4)), [2, 0, 3, 1]
    assert value(loss, ids[order], logits[order][:, order]) == pytest.approx(
        value(loss, ids, logits), rel=1e-5
    )


@pytest.mark.parametrize("batch", [2, 7, 64])
@pytest.mark.parametrize("loss", ALL, ids=lambda x: x.name)
def test_chance_level_is_the_loss_of_equal_scores(loss, batch):
    same = -math.log(batch - 1) if loss.name == "sigmoid" else 0.0
    scores = np.full((batch, batch), same)  # the best constant answer
    found = value(loss, ids_of(range(batch)), scores)
    assert found == pytest.approx(loss.chance_level(batch), rel=1e-4)


@pytest.mark.parametrize("loss", ALL, ids=lambda x: x.name)
def test_a_loss_is_built_again_from_its_settings(loss, random):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    logits = random.normal(size=(4, 4))
    ids = ids_of([0, 1, 1, 2])
    assert type(again) is type(loss)
    assert value(again, ids, logits) == value(loss, ids, logits)


def test_half_precision_logits_are_computed_in_float32():
    logits = np.full((3, 3), 0.1)
    import tensorflow as tf

    half = InfoNCELoss()(ids_of(range(3)), tf.cast(logits, tf.bfloat16))
    assert half.dtype == tf.float32
