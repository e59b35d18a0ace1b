"""Phase-1 training: order, exact resume, selection, warnings."""

import keras
import numpy as np
import pandas as pd
import pytest

from twinlens.config import Config, override
from twinlens.errors import InputError
from twinlens.features import Features
from twinlens.heads import ProjectionHead, Similarity
from twinlens.losses import InfoNCELoss
from twinlens.model import Heads
from twinlens.training import HeadTrainer, HeadTraining, diagnosis
from twinlens.training.build import Cyclic, build_optimizer
from twinlens.training.checkpoint import load_checkpoint, save_checkpoint
from twinlens.training.pairs import (
    PairFeatures,
    epoch_order,
    gather,
    pair_features,
    statistics,
)

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


def trained(config, train=None, val=None, folder=None, lines=None):
    train = train or made_pairs()
    say = (lines if lines is not None else []).append
    training = HeadTraining(train, val, config, folder, say)
    training.run(lambda history: None)
    return training


def weights_of(training):
    return [v.numpy() for v in training.heads.variables]


# === Pairs and their order ===


def test_pairs_keep_each_caption_with_its_picture():
    table = pd.DataFrame(
        {
            "image_id": ["b", "a", "b", "broken", "a"],
            "caption": ["b one", "a one", "same", "x", "same"],
        }
    )
    ids = np.array(["a", "b", "broken"], dtype=object)
    images = Features(np.eye(3), ids, np.array(["", "", "cut"], dtype=object), None)
    names = np.array(["x", "same", "b one", "a one"], dtype=object)
    texts = Features(np.eye(4), names, np.full(4, "", dtype=object), None)
    pairs = pair_features(table, images, texts)
    assert list(pairs.image_ids) == ["b", "a"]
    np.testing.assert_array_equal(pairs.image_rows, [1, 0])
    np.testing.assert_array_equal(pairs.text_rows, [2, 1, 3, 1])
    np.testing.assert_array_equal(pairs.picture_of_caption, [0, 0, 1, 1])


def test_an_epoch_shows_each_picture_at_most_once_with_its_own_captions():
    pairs = made_pairs(pictures=50, views=3)
    epoch = epoch_order(pairs, 16, seed=0, epoch=0)
    pictures = epoch.pictures.ravel()
    assert epoch.pictures.shape == (3, 16) and len(set(pictures)) == 48
    np.testing.assert_array_equal(epoch.text_rows.ravel() // CAPTIONS, pictures)
    assert set(epoch.views.ravel()) == {0, 1, 2}


def test_the_order_depends_on_seed_and_epoch_alone():
    pairs = made_pairs()
    first, same = (epoch_order(pairs, 16, 3, 5) for _ in range(2))
    np.testing.assert_array_equal(first.text_rows, same.text_rows)
    for other in (epoch_order(pairs, 16, 3, 6), epoch_order(pairs, 16, 4, 5)):
        assert (first.pictures != other.pictures).any()


def test_a_batch_larger_than_the_split_is_an_error_that_names_the_number():
    with pytest.raises(InputError, match="phase1.batch_size to 64 or less"):
        epoch_order(made_pairs(), 65, 0, 0)


def test_gathered_views_are_the_chosen_ones():
    features = np.arange(24, dtype="float16").reshape(3, 4, 2)
    rows, views = np.array([[2, 0]]), np.array([[1, 3]])
    found = gather(features, rows, views)
    np.testing.assert_array_equal(found, [[features[2, 1], features[0, 3]]])
    assert found.dtype == np.float32


def test_statistics_are_those_of_the_rows_of_the_split(random):
    features = (random.normal(size=(9000, 5)) * [1e-4, 1, 50, 1, 1] + 7).astype(
        "float32"
    )
    rows = np.arange(0, 9000, 2)
    mean, deviation = statistics(features, rows)
    np.testing.assert_allclose(mean, features[rows].mean(0, dtype="float64"), rtol=1e-5)
    np.testing.assert_allclose(
        deviation, features[rows].std(0, dtype="float64"), rtol=1e-3
    )


# === The compiled loop ===


def test_a_step_is_the_step_that_keras_would_make():
    """The chunked, compiled loop against plain eager Keras, without dropout."""

    def heads():
        parts = [ProjectionHead(8, 16, 1, dropout=0.0, seed=s) for s in (0, 1)]
        whole = Heads(*parts, Similarity(0.1))
        whole.build(((None, 8), (None, 8)))
        return whole

    import tensorflow as tf

    pairs, ours, plain = made_pairs(), heads(), heads()
    epoch = epoch_order(pairs, 16, 0, 0)
    loss = InfoNCELoss()
    ours_loss = HeadTrainer(ours, loss, keras.optimizers.SGD(0.1)).run_epoch(
        pairs, epoch
    )
    optimizer, losses = keras.optimizers.SGD(0.1), []
    for pictures, text_rows in zip(epoch.pictures, epoch.text_rows, strict=True):
        with tf.GradientTape() as tape:
            logits = plain((pairs.images[pictures], pairs.texts[text_rows]))
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
    pairs = made_pairs(views=2)
    np.save(tmp_path / "images.npy", pairs.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    other = PairFeatures(
        mapped,
        *[
            getattr(pairs, n)
            for n in ("texts", "image_rows", "text_rows", "first_caption", "image_ids")
        ],
    )
    a, b = trained(settings(), pairs), trained(settings(), other)
    for one, two in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_moving_average_follows_its_formula():
    pairs = made_pairs()
    config = settings("phase1.ema_decay=0.5", "phase1.checkpoint=last")
    training = HeadTraining(pairs, None, config, None, print)
    training._start()
    trainer = training.trainer
    start = trainer.averages[0].numpy()
    one_step = epoch_order(pairs, 64, 0, 0)
    trainer.run_epoch(pairs, one_step)
    expected = 0.5 * start + 0.5 * trainer.heads.trainable_variables[0].numpy()
    np.testing.assert_allclose(trainer.averages[0], expected, rtol=1e-6)


# === Resume, selection, stopping ===


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    train, val = made_pairs(), made_pairs(seed=1)
    config = settings("head.dropout=0.3", "phase1.ema_decay=0.9")
    whole = trained(config, train, val)
    half = HeadTraining(train, val, config, tmp_path, print)
    half._start()
    for _ in range(3):
        half._one_epoch()
    half.save()
    resumed = trained(config, train, val, tmp_path)
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]
    for a, b in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_seeds_train_equally_and_others_do_not():
    a, b, c = (trained(settings(f"seed={s}")).history[-1]["loss"] for s in (0, 0, 1))
    assert a == b != c


def test_the_best_epoch_is_kept_not_the_last():
    val = made_pairs(seed=5)  # another world: nothing learned helps, noise decides
    training = trained(settings("phase1.epochs=12"), made_pairs(), val)
    sums = [row["val/recall_sum"] for row in training.history]
    assert sums[training.best_epoch] == max(sums)
    found = training._evaluate()["recall_sum"]
    assert found == pytest.approx(max(sums))


def test_training_stops_when_nothing_is_gained():
    config = settings(
        "phase1.epochs=200", "phase1.patience=3", "phase1.learning_rate=1e-9"
    )
    training = trained(config, made_pairs(), made_pairs(seed=5))
    assert len(training.history) - 1 - training.best_epoch == 3


def test_checkpoint_last_never_looks_at_val():
    config = settings("phase1.checkpoint=last")
    with_val = trained(config, made_pairs(), made_pairs(seed=5))
    without = trained(config, made_pairs(), None)
    for a, b in zip(weights_of(with_val), weights_of(without), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_unmeasured_selection_metric_names_the_measured_ones():
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
    lines = []
    trained(settings("phase1.learning_rate=1e-9"), lines=lines)
    assert len(lines) == 1 and "cannot tell pairs apart" in lines[0]


def test_a_loss_that_falls_is_not_warned_about():
    lines = []
    trained(settings(), lines=lines)
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
        trained(settings(), pairs)
