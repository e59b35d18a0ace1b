"""What learns in phase 2, how fast and from when on; the auxiliary head; bfloat16."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from replica_job import SummedSGD, batch, dual_encoder

from twinlens.config import Config, Phase2Settings
from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.base import blocks
from twinlens.encoders.forward import check_bfloat16
from twinlens.encoders.image import with_inner
from twinlens.encoders.random_text import RandomSize
from twinlens.errors import InputError
from twinlens.losses import InfoNCELoss
from twinlens.model import DualEncoder
from twinlens.training import diagnosis
from twinlens.training.auxiliary import Auxiliary, build_auxiliary
from twinlens.training.build import Later, build_heads
from twinlens.training.finetune import FineTuner
from twinlens.training.parts import Part, TowerPlan, tower_parts
from twinlens.training.set_up import trains_normalisation


@pytest.fixture(scope="module")
def images():
    return image_encoder(weights="none", layer="mixed2", image_size=75)


@pytest.fixture(scope="module")
def texts():
    size = RandomSize(100, num_layers=3, num_heads=1, hidden_dim=4)
    return text_encoder(weights="none", size=size, corpus=["a red disc"])


def parts_of(encoder, rate=1.0, frozen=0, normalises=False, **settings):
    made = Phase2Settings(schedule="constant", warmup_fraction=0, **settings)
    plan = TowerPlan(
        "tower", encoder.model, encoder.block_end, rate, frozen, normalises
    )
    return tower_parts(plan, made, steps_per_epoch=10)


def test_blocks_hold_every_weight_once_from_the_input_upwards(images, texts):
    for encoder in (images, texts):
        found = blocks(encoder.model, encoder.block_end)
        weights = [id(w) for block in found for layer in block for w in layer.weights]
        assert sorted(weights) == sorted(id(w) for w in encoder.model.weights)
    names = [[layer.name for layer in b] for b in blocks(images.model, r"mixed\d+")]
    assert [n for b in names for n in b if n.startswith("mixed")] == [
        "mixed0",
        "mixed1",
        "mixed2",
    ]
    assert len(names) == 3 and "pixels" in names[0] and "inception_v3_pool" in names[2]
    assert len(blocks(texts.model, texts.block_end)) == 4  # embeddings, three layers


def test_rates_fall_with_depth_and_frozen_blocks_stay(texts):
    parts = parts_of(texts, rate=1e-2, frozen=1, depth_decay=0.5)
    rates = [float(part.optimizer.learning_rate) for part in parts]
    assert rates == pytest.approx([1e-2 / 4, 1e-2 / 2, 1e-2])
    learning = {id(w) for part in parts for w in part.weights}
    assert learning == {id(w) for w in texts.model.trainable_weights}
    (embeddings, *_) = blocks(texts.model, texts.block_end)
    frozen = [w for layer in embeddings for w in layer.weights]
    assert frozen and not any(id(w) in learning for w in frozen)


def test_freezing_every_block_of_a_tower_with_a_rate_is_refused(texts):
    count = len(blocks(texts.model, texts.block_end))
    (last,) = parts_of(texts, frozen=count - 1)
    assert last.weights
    with pytest.raises(
        InputError, match=f"frozen_blocks is {count}, .* {count} blocks"
    ):
        parts_of(texts, frozen=count)
    assert parts_of(texts, rate=0.0, frozen=count) == []  # locked as it is


def test_one_rate_is_one_part_and_rate_0_is_none(texts):
    (part,) = parts_of(texts)
    assert len(part.weights) == len(texts.model.weights)
    assert parts_of(texts, rate=0.0) == [] and not texts.model.trainable_weights


def test_batch_normalisation_learns_where_it_is_wanted(images):
    kinds = {}
    for normalises in (False, True):
        (part,) = parts_of(images, normalises=normalises)
        kinds[normalises] = {w.path.split("/")[-1] for w in part.weights}
    assert kinds[False] == {"kernel"} and kinds[True] == {"kernel", "beta"}


def test_batch_normalisation_is_wanted_of_random_weights_unless_frozen(images):
    given = replace(images, from_random=False)
    auto, frozen = Phase2Settings(), Phase2Settings(normalisation="frozen")
    wanted = [
        trains_normalisation(encoder, settings)
        for encoder in (images, given)
        for settings in (auto, frozen)
    ]
    assert images.from_random and wanted == [True, False, False, False]


def test_blocks_unfreeze_from_the_last_one_in_the_schedule_of_all(texts):
    parts = parts_of(texts, unfreeze_every=2, epochs=5)
    assert sorted(part.first_epoch for part in parts) == [0, 2, 4]  # 6 never comes
    assert parts[-1].first_epoch == 0
    rate = keras.optimizers.schedules.PolynomialDecay(1.0, 100, 0.0)
    assert float(Later(rate, 20)(5)) == pytest.approx(float(rate(25)))


@pytest.mark.slow
def test_weights_wait_for_their_epoch():
    model = dual_encoder()
    towers = (model.image_model, model.text_model)
    waiting, at_once = (tower.trainable_weights for tower in towers)
    parts = [
        Part("images", waiting, SummedSGD(1.0), first_epoch=1),
        Part("rest", [*at_once, *model.heads.trainable_weights], SummedSGD(1.0)),
    ]
    tuner = FineTuner(model, InfoNCELoss(), parts)
    moved = []
    for epoch in (0, 1):
        tuner.begin_epoch(epoch)
        before = [[w.numpy() for w in part.weights] for part in parts]
        tuner.step(lambda: [batch(0, 0, 1)], 1)
        moved.append(
            [
                any(
                    (w.numpy() != old).any()
                    for w, old in zip(p.weights, b, strict=True)
                )
                for p, b in zip(parts, before, strict=True)
            ]
        )
        assert (tuner.norms > 0).tolist() == [bool(epoch), True]
    assert moved == [[False, True], [True, True]]


def _moved(part, before):
    pairs = zip(part.weights, before, strict=True)
    return any((weight.numpy() != old).any() for weight, old in pairs)


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_kept_weights_lie_between_the_first_and_the_trained_ones(ema_decay):
    model = dual_encoder()
    weights = model.trainable_weights
    first = [w.numpy() for w in weights]
    part = Part("all", weights, SummedSGD(1.0))
    tuner = FineTuner(
        model, InfoNCELoss(), [part], ema_decay=ema_decay, interpolation=0.25
    )
    tuner.step(lambda: [batch(0, 0, 1)], 1)
    trained = [w.numpy() for w in weights]
    share = 0.25 * (1 - ema_decay)  # of one step, of which the average has half
    with tuner.kept():
        kept = [w.numpy() for w in weights]
    for a, b, found, now in zip(first, trained, kept, weights, strict=True):
        np.testing.assert_allclose(found, a + share * (b - a), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(now.numpy(), b)
    assert any((a != b).any() for a, b in zip(first, trained, strict=True))


class Wall(keras.layers.Layer):
    """Lets numbers through and no gradient back, as a foreign network may."""

    def call(self, x):
        return keras.ops.stop_gradient(x)


def test_a_tower_without_gradient_is_seen_and_stays():
    whole = dual_encoder()
    walled = keras.Model(whole.image_model.input, Wall()(whole.image_model.output))
    model = DualEncoder(walled, whole.text_model, whole.heads)
    tuner = FineTuner(
        model, InfoNCELoss(), [Part("all", model.trainable_weights, SummedSGD(1.0))]
    )
    before = [weight.numpy() for weight in walled.trainable_weights]
    tuner.step(lambda: [batch(0, 0, 1)], 1)
    assert (tuner.norms > 0).tolist() == [False, True]
    for old, new in zip(before, walled.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_a_tower_without_gradient_is_said_in_words():
    settings = Phase2Settings(text_learning_rate=0)
    (said,) = diagnosis.check_gradients(0.0, 0.0, settings)
    assert said.startswith("The picture encoder gets no gradient")
    assert not diagnosis.check_gradients(1.0, 0.0, settings)


# === The auxiliary head ===


def test_the_inner_mean_stands_beside_the_feature(images):
    tower = with_inner(images, "mixed1")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 75, 75, 3))
    found = tower(pixels).numpy()
    np.testing.assert_allclose(
        found[:, : images.feature_dim], images.model(pixels), rtol=1e-5, atol=1e-7
    )
    alone = image_encoder(weights="none", layer="mixed1", image_size=75)
    np.testing.assert_allclose(
        found[:, images.feature_dim :], alone.model(pixels), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(InputError, match="phase2.auxiliary_layer 'mixed9' is not in"):
        with_inner(images, "mixed9")


@pytest.mark.slow
def test_the_auxiliary_loss_counts_with_its_weight(images, texts):
    config = Config(
        phase2=Phase2Settings(auxiliary_layer="mixed1"),
        head={"embedding_dim": 4, "hidden_dim": 8, "dropout": 0.0},
    )
    pairs = [batch(i, 0, 1) for i in range(2)]
    auxiliary = build_auxiliary(images, config, [_resized(b) for b in pairs])
    assert isinstance(auxiliary, Auxiliary) and auxiliary.weight == 0.4
    loss = InfoNCELoss()
    dims = images.feature_dim, texts.feature_dim
    heads = build_heads(*dims, config.head, loss, seed=0)
    model = DualEncoder(images.model, texts.model, heads)
    part = Part(
        "heads",
        [*heads.trainable_weights, *auxiliary.head.trainable_weights],
        SummedSGD(1.0),
    )
    one = _resized(pairs[0])
    features = auxiliary.tower(one.pixels), texts.model(one.tokens)
    inner = features[0][:, images.feature_dim :]
    standardised = auxiliary.head.standardise(inner).numpy()
    assert np.abs(standardised).max() < 10  # by the statistics of the batches
    both = [(features[0][:, : images.feature_dim], features[1]), (inner, features[1])]
    logits = (
        heads.training_logits(both[0]),
        heads.training_logits(both[1], image_head=auxiliary.head),
    )
    main, extra = (float(loss(one.ids, each)) for each in logits)
    tuner = FineTuner(model, loss, [part], auxiliary=auxiliary)
    before = auxiliary.head.get_weights()
    found = tuner.step(lambda: [one], 1)
    assert found == pytest.approx(main + 0.4 * extra, rel=1e-5)
    after = auxiliary.head.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert len(tuner.state()) > len(model.variables)


def _resized(one):
    tokens = {name: ids % 5 for name, ids in one.tokens.items()}
    pixels = 255 * tf.image.resize(one.pixels, (75, 75))
    return one._replace(pixels=pixels, tokens=tokens)


# === bfloat16 ===


@pytest.mark.slow
def test_bfloat16_takes_nearly_the_step_of_float32():
    try:
        check_bfloat16("phase2.dtype")
    except InputError as error:
        pytest.skip(str(error))
    steps = {}
    for dtype in ("float32", "bfloat16"):
        model = dual_encoder()
        weights = model.trainable_weights
        before = [w.numpy() for w in weights]
        part = Part("all", weights, SummedSGD(0.1))
        FineTuner(model, InfoNCELoss(), [part], dtype=dtype).step(
            lambda: [batch(0, 0, 1)], 1
        )
        assert all(w.dtype == "float32" for w in weights)
        moved = [w.numpy() - old for w, old in zip(weights, before, strict=True)]
        steps[dtype] = np.concatenate([m.ravel() for m in moved])
    exact, rounded = steps.values()
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert 0.99 < cosine and (exact != rounded).any()
