"""One step of phase 2, against autodiff over everything at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from twinlens.config import HeadSettings
from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.random_text import RandomSize
from twinlens.losses import InfoNCELoss, SupervisedContrastiveLoss
from twinlens.model import DualEncoder
from twinlens.training.build import build_heads
from twinlens.training.finetune import FineTuner
from twinlens.training.parts import Part, mark
from twinlens.training.raw import Batch

SIZE = 32
TEXTS = ("a red disc", "two blue squares on a disc", "blue", "a green square")


@pytest.fixture(scope="module")
def encoders():
    text = text_encoder(
        weights="none", size=RandomSize(100, 1, 2, 8, dropout=0.1), corpus=TEXTS
    )
    return image_encoder("mobilenet", "none", "conv_pw_2_relu", image_size=SIZE), text


@pytest.fixture
def model(encoders):
    """A dual encoder with dropout in text tower and heads, batch norm frozen."""
    images, texts = (keras.models.clone_model(each.model) for each in encoders)
    for copy, encoder in zip((images, texts), encoders, strict=True):
        copy.set_weights(encoder.model.get_weights())
        mark(copy, learns=True, normalises=False)
    heads = build_heads(
        images.output_shape[-1],
        texts.output_shape[-1],
        HeadSettings(embedding_dim=8, hidden_dim=16, dropout=0.3),
        InfoNCELoss(),
        seed=0,
    )
    for tower, head, of in (
        (images, heads.image_head, lambda b: b.pixels),
        (texts, heads.text_head, lambda b: b.tokens),
    ):
        features = np.concatenate([tower(of(b)) for b in batches(encoders, 3)])
        head.standardise.adapt(features.mean(0), features.std(0))
    return DualEncoder(images, texts, heads)


def pictures(random, count):
    """Noise of another colour and strength each."""
    strength = random.uniform(0, 255, (count, 1, 1, 3))
    return strength * random.uniform(0, 1, (count, SIZE, SIZE, 3))


def batches(encoders, count=2, size=3, labels=False):
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        texts = [TEXTS[(number + row) % len(TEXTS)] for row in range(size)]
        ids = np.arange(size) + number * size
        columns = [ids, ids, *([ids % 2] if labels else [])]
        made.append(
            Batch(
                tf.constant(pictures(random, size), "float32"),
                encoders[1].inputs_of(tf.constant(texts)),
                tf.constant(np.stack(columns, 1), "int32"),
            )
        )
    return made


def tuner(model, rate=0.1, loss=None, **more):
    part = Part("all", model.trainable_weights, keras.optimizers.SGD(rate))
    return FineTuner(model, loss or InfoNCELoss(), [part], **more)


def values(model):
    return {v.path: v.numpy() for v in model.variables}


def stepped_at_once(model, made, rate=0.1, of=None):
    """The step by one tape over all batches: no cache, no compilation."""
    weights = model.trainable_weights
    with tf.GradientTape() as tape:
        sides = [
            (
                model.image_model(b.pixels, training=True),
                model.text_model(b.tokens, training=True),
            )
            for b in made
        ]
        images, texts = (tf.concat(side, 0) for side in zip(*sides, strict=True))
        logits = model.heads.training_logits((images, texts))
        loss = (of or InfoNCELoss())(tf.concat([b.ids for b in made], 0), logits)
    gradients = tape.gradient(loss, [w.value for w in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_sub(rate * tf.convert_to_tensor(gradient))
    return float(loss)


@pytest.mark.parametrize(
    ("count", "of"),
    [
        (1, InfoNCELoss()),
        pytest.param(3, InfoNCELoss(), marks=pytest.mark.slow),
        (3, SupervisedContrastiveLoss()),
    ],
)
def test_a_step_is_autodiff_over_all_pairs_at_once_with_the_same_dropout(
    encoders, model, count, of
):
    made = batches(encoders, count, labels=of.needs_labels)
    start = values(model)
    loss = tuner(model, loss=of).step(lambda: made, count)
    found = values(model)
    for variable in model.variables:
        variable.assign(start[variable.path])
    assert loss == pytest.approx(stepped_at_once(model, made, of=of), rel=1e-5)
    for path in [w.path for w in model.trainable_weights]:
        value = values(model)[path]
        change = np.abs(value - start[path].astype("float64")).max()
        np.testing.assert_allclose(
            found[path], value, rtol=1e-5, atol=1e-6 + 1e-3 * change, err_msg=path
        )
    moved = [p for p, v in found.items() if (v != start[p]).any()]
    assert any("conv_pw" in p for p in moved) and any("transformer" in p for p in moved)


def test_a_locked_tower_stays_and_has_no_dropout(encoders, model):
    mark(model.text_model, learns=False, normalises=False)
    start = values(model)
    tuner(model).step(lambda: batches(encoders, 1), 1)
    for path, value in values(model).items():
        if path.startswith(("token", "transformer", "position", "segment")):
            np.testing.assert_array_equal(value, start[path], err_msg=path)


def test_clipping_bounds_the_update_and_averages_follow_it(encoders, model):
    start = values(model)
    made = tuner(model, rate=1.0, clip_norm=1e-3, ema_decay=0.5)
    made.step(lambda: batches(encoders, 1), 1)
    for average, weight in zip(made.averages, made.weights, strict=True):
        expected = (start[weight.path] + weight.numpy()) / 2
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-7)
    weights = {w.path for w in model.trainable_weights}
    moved = [v - start[p] for p, v in values(model).items() if p in weights]
    norm = np.sqrt(sum(float(np.square(m.astype("float64")).sum()) for m in moved))
    assert norm == pytest.approx(1e-3, rel=0.02)


def test_statistics_are_brought_up_to_date_without_touching_weights(encoders, model):
    mark(model.image_model, learns=True, normalises=True)
    start = values(model)
    tuner(model).update_statistics(batches(encoders, 2))
    moved = {
        path.split("/")[-1]
        for path in start
        if (values(model)[path] != start[path]).any()
    }
    assert moved == {"moving_mean", "moving_variance", "seed_generator_state"}


def test_batch_normalisation_of_pretrained_weights_stays(encoders, model):
    start = values(model)
    tuner(model).step(lambda: batches(encoders, 1), 1)
    for path, value in values(model).items():
        if path.startswith("batch_normalization"):
            np.testing.assert_array_equal(value, start[path], err_msg=path)


def test_a_saved_model_gives_the_same_logits(encoders, model, tmp_path):
    (batch,) = batches(encoders, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = (batch.pixels, batch.tokens)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    embedded = loaded.encode_image(batch.pixels) @ tf.transpose(
        loaded.encode_text(batch.tokens)
    )
    scale = float(model.heads.similarity.scale())
    np.testing.assert_allclose(scale * embedded, model(inputs), rtol=1e-4, atol=1e-5)
