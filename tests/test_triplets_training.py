"""Phase 1 of composed retrieval: order, statistics, steps, resuming, mistakes."""

import dataclasses
import functools

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from made_heads import made_heads, made_triplets
from tiny import without_xla

from twinlens.config import Config, override
from twinlens.errors import InputError
from twinlens.features import Features
from twinlens.target_loss import TargetLoss
from twinlens.training import HeadTrainer, HeadTraining
from twinlens.training.build import build_loss
from twinlens.training.composing import composed_metrics, composed_ranks
from twinlens.training.jobs import ComposedJob
from twinlens.training.triplets import (
    PICTURE_STEPS,
    group_numbers,
    token_statistics,
    triplet_features,
    triplet_order,
)


def settings(*overrides):
    small = [
        *("fusion.name=attention", "fusion.hidden_dim=16", "fusion.place_dim=4"),
        *("fusion.attention_dim=4", "fusion.together_count=4", "head.dropout=0.1"),
        *("head.embedding_dim=16", "phase1.batch_size=16", "phase1.epochs=4"),
        "phase1.learning_rate=0.01",
    ]
    return override(Config(), [*small, *overrides])


def trained(config, train=None, val=None, folder=None):
    train = train if train is not None else made_triplets()
    training = HeadTraining(train, val, config, folder, lambda line: None)
    training.run(lambda history: None)
    return training


def plainly_trained(*arguments, **more):
    with without_xla():
        return trained(*arguments, **more)


def weights_of(training):
    return [v.numpy() for v in training.heads.variables]


# === The order of an epoch ===


@st.composite
def orders(draw):
    """Triplets of any references, targets and groups, and the order of an epoch."""
    count = draw(st.integers(1, 40))
    rows = st.lists(st.integers(0, 8), min_size=count, max_size=count)
    columns = {
        name: np.array(draw(rows)) for name in ("references", "targets", "groups")
    }
    triplets = dataclasses.replace(made_triplets(2, 2), **columns)
    size, together = draw(st.integers(1, count)), draw(st.integers(1, 5))
    seed, epoch = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return triplets, (size, seed, epoch, together)


@given(orders())
def test_each_triplet_comes_at_most_once_and_few_are_left(drawn):
    triplets, (size, *more) = drawn
    shown = triplet_order(triplets, size, *more).triplets
    assert shown.shape == (len(triplets) // size, size)
    assert len(np.unique(shown)) == shown.size
    assert 0 <= shown.min() and shown.max() < len(triplets)


@given(orders())
def test_a_step_has_all_of_its_pictures_and_padding_only_repeats(drawn):
    triplets, (size, *more) = drawn
    order = triplet_order(triplets, size, *more)
    for pictures, rows in zip(order.pictures, order.triplets, strict=True):
        wanted = set(triplets.references[rows]) | set(triplets.targets[rows])
        assert set(pictures) == wanted
        repeated = pictures[len(wanted) :]
        assert set(repeated) <= {pictures[0]}
    width = order.pictures.shape[1]
    assert width % max(1, 2 * size // PICTURE_STEPS) == 0 or width == 2 * size


@given(orders())
def test_the_order_depends_on_seed_and_epoch_alone(drawn):
    triplets, arguments = drawn
    first, again = (triplet_order(triplets, *arguments) for _ in range(2))
    for field in dataclasses.fields(first):
        one, two = getattr(first, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(one, two)


@given(orders())
def test_a_group_stands_in_chunks_of_at_most_together(drawn):
    """All of a group are together but for what exceeds the size of a chunk."""
    triplets, (_, seed, epoch, together) = drawn
    count = len(triplets)
    (order,) = triplet_order(triplets, count, seed, epoch, together).triplets
    groups = triplets.groups[order]
    runs = np.split(groups, np.flatnonzero(np.diff(groups)) + 1)
    for group in np.unique(groups) if together > 1 else []:
        mine = [len(run) for run in runs if run[0] == group]
        whole, rest = divmod(sum(mine), together)
        assert len(mine) <= whole + (rest > 0)
        assert sum(length % together > 0 for length in mine) <= (rest > 0)


def test_groups_and_chunks_are_in_random_order():
    triplets = made_triplets()
    shown = {
        tuple(triplet_order(triplets, 48, 0, epoch, 4).triplets[0])
        for epoch in range(5)
    }
    assert len(shown) == 5
    groups = triplets.groups[triplet_order(triplets, 48, 0, 0, 4).triplets[0]]
    assert (np.diff(groups)[np.diff(groups) != 0] < 0).any()


def test_the_rows_of_a_step_are_its_features(random):
    """Through views: row of a picture times views, plus the view."""
    views = random.normal(size=(8, 3, 4, 5)).astype("float32")
    triplets = made_triplets(2, 4, images=views)
    order = triplet_order(triplets, 4, 0, 0)
    images, texts, ids = order.rows(triplets)
    found = views.reshape(-1, 4, 5)[images]
    np.testing.assert_array_equal(found, views[order.pictures, order.views])
    assert {0, 1, 2} == set(order.views.ravel())
    np.testing.assert_array_equal(texts, triplets.text_rows[order.triplets])
    np.testing.assert_array_equal(ids["pictures"], order.pictures)
    ends = triplets.references[order.triplets], triplets.targets[order.triplets]
    np.testing.assert_array_equal(ids["triplets"], np.stack(ends, -1))
    assert triplets.views == 3
    np.testing.assert_array_equal(triplets.plain_images, views[:, 0])


def test_a_batch_larger_than_the_split_is_an_error():
    expected = "phase1.batch_size is 49, but .* only 48 triplets. Set phase1"
    with pytest.raises(InputError, match=expected):
        triplet_order(made_triplets(), 49, 0, 0)
    with pytest.raises(InputError, match="phase2.batch_size is 49"):
        triplet_order(made_triplets(), 49, 0, 0, phase="phase2")


def test_a_group_attribute_that_is_missing_is_named():
    table = made_triplets().table
    np.testing.assert_array_equal(
        group_numbers(table, "family"), pd.factorize(table["family"])[0]
    )
    assert len(set(group_numbers(table, ""))) == len(table)
    expected = "fusion.together is 'colour', which .* reference_id, .*family"
    with pytest.raises(InputError, match=expected):
        group_numbers(table, "colour")


def test_triplets_without_the_attribute_are_no_group():
    table = pd.DataFrame({"family": ["a", None, "a", None]})
    groups = group_numbers(table, "family")
    assert groups[0] == groups[2] and len(set(groups)) == 3


# === Features ===


def test_triplets_of_broken_pictures_are_left_out_everywhere(random):
    ids, errors = np.array(["a", "b", "c"], object), np.array(["", "broken", ""])
    images = Features(random.normal(size=(3, 4, 5)), ids, errors, None)
    ids, errors = np.array(["more", "less"], object), np.array(["", ""])
    texts = Features(random.normal(size=(2, 6, 3)), ids, errors, None)
    rows = [("a", "c", "less"), ("b", "c", "more"), ("a", "b", "more")]
    rows.append(("c", "a", "more"))
    table = pd.DataFrame(rows, columns=["reference_id", "target_id", "wish"])
    found = triplet_features(
        table, images, texts, ((4, 5), (6, 3)), {"x": ["c", "b", "a"]}
    )
    assert len(found) == len(found.table) == 2
    np.testing.assert_array_equal(found.image_ids[found.references], ["a", "c"])
    np.testing.assert_array_equal(found.image_ids[found.targets], ["c", "a"])
    np.testing.assert_array_equal(texts.ids[found.text_rows], ["less", "more"])
    np.testing.assert_array_equal(found.image_ids[found.galleries["x"]], ["c", "a"])


def test_statistics_are_those_of_all_tokens_that_there_are(random):
    features = random.normal(3, 2, size=(20, 6, 4)).astype("float16")
    features[:, 4:] = 0
    features[3, 1:] = 0
    rows = np.array([3, 3, 5, 9])  # a text that comes twice counts once
    tokens = features[[3, 5, 9]].reshape(-1, 4).astype("float64")
    tokens = tokens[(tokens != 0).any(1)]
    mean, deviation = token_statistics(features, rows)
    np.testing.assert_allclose(mean, tokens.mean(0), rtol=1e-5)
    np.testing.assert_allclose(deviation, tokens.std(0), rtol=1e-5)
    vectors = random.normal(size=(9, 4))
    mean, deviation = token_statistics(vectors, np.arange(9))
    np.testing.assert_allclose(mean, vectors.mean(0), rtol=1e-5)
    np.testing.assert_allclose(deviation, vectors.std(0), rtol=1e-5)


def test_of_many_tokens_a_sample_is_enough(random, monkeypatch):
    monkeypatch.setattr("twinlens.training.triplets.STATISTICS_TOKENS", 4000)
    features = random.normal(3, 2, size=(5000, 4, 2))
    mean, deviation = token_statistics(features, np.arange(5000))
    np.testing.assert_allclose(mean, 3, atol=0.15)
    np.testing.assert_allclose(deviation, 2, atol=0.15)
    assert (mean != features.reshape(-1, 2).mean(0).astype("float32")).all()


# === Training ===


@pytest.mark.slow
def test_a_step_is_the_step_that_keras_would_make():
    """The compiled loop against a plain tape, on the distinct pictures alone."""
    triplets, rate = made_triplets(), 0.1
    ours, plain = made_heads(), made_heads()
    epoch = triplet_order(triplets, 10, seed=0, epoch=0, together=4)
    loss = TargetLoss(0.1, label_smoothing=0.1)
    found = HeadTrainer(ours, loss, keras.optimizers.SGD(rate)).run_epoch(
        triplets, epoch
    )
    optimizer, losses = keras.optimizers.SGD(rate), []
    for rows in epoch.triplets:
        ends = [x[rows] for x in (triplets.references, triplets.targets)]
        pictures = np.unique(ends)
        with tf.GradientTape() as tape:
            queries = plain(
                (triplets.images[ends[0]], triplets.texts[triplets.text_rows[rows]])
            )
            candidates = plain.encode_target(triplets.images[pictures])
            right = np.float32(pictures == ends[1][:, None])
            value = loss(right, plain.similarity(queries, candidates))
        weights = [w for w in plain.trainable_variables if w is not plain.no_picture]
        gradients = tape.gradient(value, [w.value for w in weights])
        optimizer.apply(gradients, weights)
        losses.append(float(value))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    start = made_heads().trainable_variables
    triples = zip(
        ours.trainable_variables, plain.trainable_variables, start, strict=True
    )
    for a, b, before in triples:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=a.path)
        assert a.path.endswith("/none") or (a.numpy() != before.numpy()).any(), a.path


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["sum", "combiner", "attention"])
def test_every_fusion_learns_what_a_wish_means(fusion):
    config = settings(
        f"fusion.name={fusion}", "fusion.combiner_dim=32", "phase1.epochs=60"
    )
    training = plainly_trained(config, val=made_triplets())
    losses = [row["loss"] for row in training.history]
    assert losses[-1] < 0.4 * losses[0]
    last = training.history[-1]
    assert last["val/composed/recall@1"] > 0.6  # one side alone: 1 in 4


@functools.cache
def whole():
    return plainly_trained(settings())


def test_the_loss_falls():
    losses = [row["loss"] for row in whole().history]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits():
    again = plainly_trained(settings())
    for a, b in zip(weights_of(whole()), weights_of(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("twinlens.training.course.CHECKPOINT_EVERY_SECONDS", 0.0)
    train = made_triplets()
    with without_xla():
        started = HeadTraining(train, None, settings(), tmp_path, lambda line: None)

    def stop(history):
        if len(history) == 3:  # two epochs are saved
            raise RuntimeError

    with pytest.raises(RuntimeError):
        started.run(stop)
    resumed = plainly_trained(settings(), folder=tmp_path)
    assert [row["loss"] for row in resumed.history] == [
        row["loss"] for row in whole().history
    ]
    for a, b in zip(weights_of(whole()), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_heads_start_with_the_statistics_of_the_training_pictures_and_wishes():
    train = made_triplets()
    job = ComposedJob(train, None, settings())
    job.adapt()
    standardise = job.heads.image_head.standardise
    np.testing.assert_allclose(
        standardise.mean, train.images.reshape(-1, 5).mean(0), rtol=1e-4, atol=1e-6
    )
    tokens = train.texts.reshape(-1, 3)
    tokens = tokens[tokens.any(1)]
    standardise = job.heads.text_head.standardise
    np.testing.assert_allclose(standardise.mean, tokens.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(standardise.deviation, tokens.std(0), rtol=1e-4)


def test_chance_is_among_the_pictures_of_a_step():
    job = ComposedJob(made_triplets(), None, settings())
    assert job.candidates() == job.order(0).pictures.shape[1] <= 32


def test_other_losses_are_refused():
    for name in ("sigmoid", "triplet", "soft_target"):
        with pytest.raises(InputError, match=f"loss.name is '{name}'.*Leave loss.na"):
            build_loss(override(Config(), [f"loss.name={name}"]).loss, composed=True)


# === Measuring ===


def slow_ranks(queries, pictures, triplets):
    found = []
    for row, query in enumerate(queries):
        gallery = list(triplets.galleries[triplets.table["category"][row]])
        if not triplets.keeps_reference:
            gallery.remove(triplets.references[row])
        scores = {place: query @ pictures[place] for place in gallery}
        own = scores[triplets.targets[row]]
        found.append((sum(s >= own for s in scores.values()), len(gallery)))
    return np.array(found).T


@pytest.mark.parametrize("keeps_reference", [True, False])
def test_ranks_are_those_of_a_slow_loop(keeps_reference, random):
    triplets = made_triplets(keeps_reference=keeps_reference)
    numbers = np.arange(48)
    category = np.where(numbers < 20, "a", "b")
    table = triplets.table.assign(category=category)
    galleries = {"a": numbers[20::-1], "b": numbers[::-1][:40]}
    triplets = dataclasses.replace(triplets, table=table, galleries=galleries)
    queries, pictures = (random.normal(size=(48, 3)) for _ in range(2))
    ranks, sizes = composed_ranks(queries, pictures, triplets)
    expected_ranks, expected_sizes = slow_ranks(queries, pictures, triplets)
    np.testing.assert_array_equal(ranks, expected_ranks)
    np.testing.assert_array_equal(sizes, expected_sizes)


def test_a_reference_that_stays_comes_before_its_target():
    """A query that is its reference finds that first, unless it is left out."""
    pictures = np.eye(48)
    pictures[:, 0] += 1e-3 * np.arange(48)
    for keeps_reference in (True, False):
        triplets = made_triplets(keeps_reference=keeps_reference)
        references, targets = triplets.references, triplets.targets
        queries = pictures[references] + 0.5 * pictures[targets]
        found = composed_metrics(queries, pictures, triplets)
        assert found["composed/recall@1"] == (0 if keeps_reference else 1)
        assert found["composed/recall@5"] == 1
        assert found["recall_sum"] == sum(
            found[f"composed/recall@{k}"] for k in (1, 5, 10)
        )
