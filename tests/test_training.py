"""Phase-1 training: order, exact resume, selection, warnings.

Compiling takes most of the time: trainings that several tests need are shared, and
what XLA cannot change is tested without it.
"""

import dataclasses
import functools

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tiny import without_xla

from twinlens.config import Config, override
from twinlens.errors import InputError
from twinlens.heads import ProjectionHead, Similarity
from twinlens.losses import InfoNCELoss
from twinlens.model import Heads
from twinlens.training import HeadTrainer, HeadTraining, diagnosis
from twinlens.training.build import Cyclic, build_optimizer
from twinlens.training.checkpoint import load_checkpoint, save_checkpoint
from twinlens.training.pairs import PairFeatures, epoch_order

CAPTIONS = 3


def made_pairs(pictures=64, dim=8, views=1, seed=0, noise=0.3):
    """Pictures and captions that share a hidden code, so there is much to learn."""
    random = np.random.default_rng(seed)
    code = random.normal(size=(pictures, 4))
    shape = (pictures, views, dim) if views > 1 else (pictures, dim)
    images = (
        (code @ random.normal(size=(4, dim)))[:, None, :]
        if views > 1
        else code @ random.normal(size=(4, dim))
    )
    images = images + noise * random.normal(size=shape)
    texts = np.repeat(code @ random.normal(size=(4, dim)), CAPTIONS, axis=0)
    texts = texts + noise * random.normal(size=texts.shape)
    rows = np.arange(pictures)
    return PairFeatures(
        images.astype("float32"),
        texts.astype("float32"),
        rows,
        np.arange(pictures * CAPTIONS),
        np.arange(pictures + 1) * CAPTIONS,
        rows,
    )


def settings(*overrides):
    small = [
        "phase1.batch_size=16",
        "phase1.epochs=6",
        "head.hidden_dim=16",
        "head.embedding_dim=8",
        "phase1.learning_rate=0.01",
    ]
    return override(Config(), [*small, *overrides])


def plainly_trained(*arguments, **more):
    with without_xla():
        return trained(*arguments, **more)


def trained(config, train=None, val=None, folder=None, lines=None):
    train = train or made_pairs()
    say = (lines if lines is not None else []).append
    training = HeadTraining(train, val, config, folder, say)
    training.run(lambda history: None)
    return training


def weights_of(training):
    return [v.numpy() for v in training.heads.variables]


@functools.cache
def default():
    """The training of the default settings, without val, and what it said."""
    lines = []
    return plainly_trained(settings(), lines=lines), lines


@functools.cache
def hopeless():
    """A training that learns nothing, watched on val, and what it said."""
    lines = []
    never = ["phase1.learning_rate=1e-9", "phase1.patience=3", "phase1.epochs=200"]
    config = settings(*never)
    pairs = made_pairs(), made_pairs(seed=5)
    return plainly_trained(config, *pairs, lines=lines), lines


# === The compiled loop ===


def test_a_step_is_the_step_that_keras_would_make(monkeypatch):
    """The compiled loop against plain eager Keras, without dropout, on views."""
    monkeypatch.setattr("twinlens.training.loop.CALL_PAIRS", 3 * 16)  # the last: one

    def heads():
        parts = [ProjectionHead(8, 16, 1, dropout=0.0, seed=s) for s in (0, 1)]
        whole = Heads(*parts, Similarity(0.1))
        whole.build(((None, 8), (None, 8)))
        return whole

    pairs, ours, plain = made_pairs(views=3), heads(), heads()
    epoch = epoch_order(pairs, 16, 0, 0)
    loss = InfoNCELoss()
    ours_loss = HeadTrainer(ours, loss, keras.optimizers.SGD(0.1)).run_epoch(
        pairs, epoch
    )
    optimizer, losses = keras.optimizers.SGD(0.1), []
    steps = zip(epoch.pictures, epoch.views, epoch.text_rows, strict=True)
    for pictures, views, text_rows in steps:
        with tf.GradientTape() as tape:
            logits = plain((pairs.images[pictures, views], pairs.texts[text_rows]))
            value = loss(np.stack([pictures, text_rows], 1).astype("int32"), logits)
        gradients = tape.gradient(value, [v.value for v in plain.trainable_variables])
        optimizer.apply(gradients, plain.trainable_variables)
        losses.append(float(value))
    assert ours_loss == pytest.approx(np.mean(losses), rel=1e-5)
    for a, b in zip(ours.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["info_nce", "sigmoid", "soft_target", "triplet"])
def test_every_loss_learns_to_find_pairs(loss):
    training = trained(
        settings(f"loss.name={loss}", "phase1.epochs=30"), val=made_pairs()
    )
    last = training.history[-1]
    assert last["loss"] < 0.7 * training.history[0]["loss"]
    assert last["val/text_to_image/recall@1"] > 0.3  # chance is 1 in 64


def test_a_memory_map_trains_like_an_array(tmp_path):
    pairs = made_pairs()
    np.save(tmp_path / "images.npy", pairs.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    training = plainly_trained(settings(), dataclasses.replace(pairs, images=mapped))
    for one, two in zip(weights_of(training), weights_of(default()[0]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_moving_average_follows_its_formula():
    pairs = made_pairs()
    config = settings("phase1.ema_decay=0.5", "phase1.checkpoint=last")
    with without_xla():
        training = HeadTraining(pairs, None, config, None, print)
    training._start()
    trainer = training.trainer
    start = trainer.averages[0].numpy()
    one_step = epoch_order(pairs, 64, 0, 0)
    trainer.run_epoch(pairs, one_step)
    expected = 0.5 * start + 0.5 * trainer.heads.trainable_variables[0].numpy()
    np.testing.assert_allclose(trainer.averages[0], expected, rtol=1e-6)


# === Resume, selection, stopping ===


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    train, val = made_pairs(), made_pairs(seed=1)
    config = settings("head.dropout=0.3", "phase1.ema_decay=0.9")
    whole = HeadTraining(train, val, config, tmp_path, print)
    whole._start()
    for epoch in range(config.phase1.epochs):
        if epoch == 3:
            whole.save()
        whole._one_epoch()
    whole._finish()
    resumed = HeadTraining(train, val, config, tmp_path, print)
    seen = []
    resumed.run(lambda history: seen.append(len(history)))
    assert seen == [4, 5, 6]
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]
    for a, b in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_seeds_train_equally_and_others_do_not():
    a = default()[0]
    b, c = (plainly_trained(settings(f"seed={seed}")) for seed in (0, 1))
    a, b, c = (training.history[-1]["loss"] for training in (a, b, c))
    assert a == b != c


def test_the_best_epoch_is_kept_not_the_last():
    val = made_pairs(seed=5)  # another world: nothing learned helps, noise decides
    training = plainly_trained(settings("phase1.epochs=12"), made_pairs(), val)
    sums = [row["val/recall_sum"] for row in training.history]
    assert sums[training.selection.best_epoch] == max(sums)
    found = training._evaluate()["recall_sum"]
    assert found == pytest.approx(max(sums))


def test_training_stops_when_nothing_is_gained():
    training, _ = hopeless()
    assert len(training.history) - 1 - training.selection.best_epoch == 3


def test_checkpoint_last_never_looks_at_val():
    config = settings("phase1.checkpoint=last")
    with_val = plainly_trained(config, made_pairs(), made_pairs(seed=5))
    assert "val/recall_sum" in with_val.history[-1]
    for a, b in zip(weights_of(with_val), weights_of(default()[0]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_unmeasured_selection_metric_names_the_measured_ones(monkeypatch):
    monkeypatch.setattr(HeadTrainer, "run_epoch", lambda *_: 1.0)
    with pytest.raises(InputError, match="text_to_image/recall@1"):
        trained(settings("phase1.select_by=recall@7"), val=made_pairs())


def test_a_damaged_checkpoint_is_an_error_in_words(tmp_path):
    path = tmp_path / "checkpoint.npz"
    variable = keras.Variable(np.ones(3))
    save_checkpoint(path, [variable], [], {"history": []})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="--restart"):
        load_checkpoint(path, [variable])
    assert load_checkpoint(tmp_path / "none.npz", [variable]) is None


# === Schedules ===


def test_warm_up_rises_to_the_peak_and_the_cosine_falls_to_zero():
    phase1 = settings("phase1.epochs=10", "phase1.warmup_fraction=0.2").phase1
    rate = build_optimizer(phase1, steps_per_epoch=10)._learning_rate
    at = [float(rate(step)) for step in (0, 10, 20, 60, 100)]
    peak = phase1.learning_rate
    np.testing.assert_allclose(at, [0, peak / 2, peak, peak / 2, 0], atol=1e-6)


def test_the_cyclic_rate_is_a_triangle():
    rate = Cyclic(1.0, 3.0, half_steps=4)
    found = [float(rate(step)) for step in (0, 2, 4, 6, 8, 10)]
    np.testing.assert_allclose(found, [1, 2, 3, 2, 1, 2])


def test_weight_decay_spares_biases_norms_and_the_scale():
    training = HeadTraining(made_pairs(), None, settings("phase1.weight_decay=0.5"))
    spared = [
        weight.path.split("/")[-1]
        for weight in training.heads.trainable_variables
        if not training.trainer.optimizer._use_weight_decay(weight)
    ]
    assert set(spared) == {"bias", "gamma", "beta", "log_scale"}


# === Diagnosis ===


def test_a_loss_that_stays_at_chance_is_said_once():
    training, lines = hopeless()
    assert len(training.history) > 3
    assert len(lines) == 1 and "cannot tell pairs apart" in lines[0]


def test_a_loss_that_falls_is_not_warned_about():
    training, lines = default()
    assert training.history[-1]["loss"] < training.history[0]["loss"]
    assert lines == []


def test_collapsed_embeddings_are_said():
    same = np.tile([[0.6, 0.8]], (9, 1))
    (warning,) = diagnosis.check_embeddings(same, np.eye(9, 2))
    assert "pictures have collapsed" in warning


def test_one_caption_for_all_pictures_is_said():
    table = pd.DataFrame({"image_id": list("abcd"), "caption": ["a photo"] * 3 + ["x"]})
    (warning,) = diagnosis.check_captions(table)
    assert "3 of 4" in warning and "'a photo'" in warning


def test_a_loss_that_is_no_number_stops_the_training():
    pairs = made_pairs()
    pairs.images[3, 2] = np.nan
    with pytest.raises(InputError, match="The loss became nan in epoch 1"):
        plainly_trained(settings(), pairs)
