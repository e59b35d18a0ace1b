"""Phase 2 of composed retrieval: batches, steps, cached or not, stopped or not."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from fine_tuned import encoders_anew
from tiny import run

from twinlens.composed_experiment import ComposedExperiment
from twinlens.config import Phase2Settings, config_from
from twinlens.data import images
from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.random_text import RandomSize
from twinlens.errors import InputError
from twinlens.model import DualEncoder
from twinlens.runs import Run
from twinlens.target_loss import TargetLoss
from twinlens.training import finetuning
from twinlens.training.finetune import FineTuner
from twinlens.training.finetuning import FineTuning
from twinlens.training.parts import Part, mark
from twinlens.training.phase1 import load_heads
from twinlens.training.phase2 import load_model
from twinlens.training.raw import Batch
from twinlens.training.raw_jobs import RawTripletJob
from twinlens.training.raw_triplets import TripletBatches
from twinlens.training.replicas import Replicas
from twinlens.training.selection import Selection
from twinlens.training.triplets import triplet_order

pytestmark = pytest.mark.slow  # whole models on real pictures

PLAIN = {"crop": 1.0, "flip": False, "colour": 0.0}
EXTRA = {
    **PLAIN,
    "epochs": 2,
    "batch_size": 8,
    "image_learning_rate": 0.0,  # quick to compile; the steps below train both
    "evaluate_every": 1,
}


# === Batches ===


@pytest.fixture(scope="module")
def experiment(composed, composed_home):
    """The tiny triplets, encoded before the encoders change."""
    plain = Run(composed.folder).config.model_dump()
    plain["phase2"] |= EXTRA
    made = ComposedExperiment(config_from(plain, "test"))
    made.pairs("val")
    return made


@pytest.fixture(scope="module")
def small():
    """Encoders of another size, for steps that train them."""
    texts = ("make it red", "remove the large blue square", "add a disc")
    text = text_encoder(
        weights="none",
        size=RandomSize(100, 1, 2, 8, dropout=0.1),
        corpus=texts,
        pooling="tokens",
    )
    image = image_encoder(
        *("mobilenet", "none", "conv_pw_1_relu"),
        image_size=32,
        pooling="tokens",
        grid=2,
    )
    return image, text


def batches_of(experiment, encoders, **settings):
    triplets = experiment.raw_pairs("train")
    made = TripletBatches(
        triplets, *encoders, Phase2Settings(**PLAIN | settings), seed=0
    )
    order = triplet_order(triplets, 6, 0, 0, 3, "phase2")
    return triplets, order, lambda *part: list(made(order, *part))


def test_pixels_texts_and_ids_are_those_of_the_triplets(experiment, small):
    triplets, order, made = batches_of(experiment, small)
    (batch,) = made(0, 1, 2)
    for row, place in enumerate(order.pictures[1]):
        expected = images.load(triplets.paths[place], 32, "stretch")
        np.testing.assert_array_equal(batch.pixels[row], expected)
    np.testing.assert_array_equal(batch.ids["pictures"], order.pictures[1])
    rows = order.triplets[1]
    ends = np.stack([triplets.references[rows], triplets.targets[rows]], 1)
    np.testing.assert_array_equal(batch.ids["triplets"], ends)
    wishes = tf.constant(list(triplets.table["wish"].iloc[rows]))
    length = batch.tokens["token_ids"].shape[1]
    expected = small[1].pack(small[1].tokenize(wishes), length)
    for name, each in expected.items():
        np.testing.assert_array_equal(batch.tokens[name], each)


def test_a_picture_that_triplets_share_is_read_once(experiment, small):
    """But for those that fill up the batch."""
    _, order, made = batches_of(experiment, small)
    for step, batch in enumerate(made(0, 0, len(order.pictures))):
        distinct = np.unique(batch.ids["triplets"])
        np.testing.assert_array_equal(np.unique(batch.ids["pictures"]), distinct)
        assert len(batch.pixels) == order.pictures.shape[1] < len(distinct) + 8
        assert set(order.pictures[step][len(distinct) :]) <= {order.pictures[step][0]}


def test_a_batch_is_the_same_at_every_call_and_another_in_another_epoch(
    experiment, small
):
    _, _, made = batches_of(experiment, small, crop=0.5, flip=True, colour=0.2)
    whole, (again,), (later,) = made(0, 0, 3), made(0, 2, 3), made(1, 2, 3)
    np.testing.assert_array_equal(whole[2].pixels, again.pixels)
    assert np.abs(again.pixels - later.pixels).max() > 1


# === A step ===


def dual_encoder(small, heads_of):
    """A dual encoder of its own, with dropout in the text tower only."""
    images_, texts = (keras.models.clone_model(each.model) for each in small)
    for copy, encoder in zip((images_, texts), small, strict=True):
        copy.set_weights(encoder.model.get_weights())
        mark(copy, learns=True, normalises=False)
    return DualEncoder(images_, texts, heads_of(images_, texts))


def heads_for(kind, drop_image=0.0):
    from made_heads import SETTINGS, scrambled

    from twinlens.composed import ComposedHeads
    from twinlens.fusion import make_fusion
    from twinlens.heads import Similarity
    from twinlens.token_heads import PlaceHead, WordHead

    def made(image_model, text_model):
        tokens = {"embedding_dim": 8, "hidden_dim": 6, "dropout": 0.0}
        heads = ComposedHeads(
            PlaceHead(2, seed=1, **tokens),
            WordHead(seed=2, **tokens),
            make_fusion(kind, name=kind, **SETTINGS[kind]),
            Similarity(0.1),
            drop_image,
        )
        heads.build((image_model.output_shape, text_model.output_shape))
        return scrambled(heads)

    return made


def values(model):
    return {v.path: v.numpy() for v in model.variables}


def stepped(model, batches, rate=0.01):
    part = Part("all", model.trainable_weights, keras.optimizers.SGD(rate))
    tuner = FineTuner(model, TargetLoss(0.1), [part])
    return tuner.step(lambda: batches, len(batches))


def joined(batches):
    parts = tf.nest.map_structure(lambda *each: tf.concat(each, 0), *batches)
    return Batch(*parts)


def test_a_step_on_two_batches_is_a_step_on_all_of_their_triplets(experiment, small):
    """Gradient cache: a picture of both batches counts once, as in one batch."""
    _, order, made = batches_of(experiment, small)
    two = made(0, 0, 2)
    assert np.intersect1d(*order.pictures[:2]).size  # one is in both
    model = dual_encoder(small, heads_for("attention"))
    start = values(model)
    loss = stepped(model, two)
    found = values(model)
    for variable in model.variables:
        variable.assign(start[variable.path])
    with_tape, expected = at_once(model, two)
    assert loss == pytest.approx(with_tape, rel=1e-5)
    for path in [w.path for w in model.trainable_weights]:
        change = np.abs(expected[path] - start[path].astype("float64")).max()
        np.testing.assert_allclose(
            found[path], expected[path], atol=1e-6 + 2e-3 * change, err_msg=path
        )
    moved = [p for p, v in found.items() if (v != start[p]).any()]
    for part in ("conv_pw", "transformer", "place_head", "word_head", "additive"):
        assert any(part in path for path in moved), part


def at_once(model, batches, rate=0.01):
    """Loss and weights after a step of autodiff over everything."""
    with tf.GradientTape() as tape:
        features = [
            (
                model.image_model(batch.pixels, training=True),
                model.text_model(batch.tokens, training=True),
            )
            for batch in batches
        ]
        both = [tf.concat(side, 0) for side in zip(*features, strict=True)]
        ids = {
            name: tf.concat([batch.ids[name] for batch in batches], 0)
            for name in ("pictures", "triplets")
        }
        loss = model.heads.training_loss(TargetLoss(0.1), both, ids)
    weights = model.trainable_weights
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, [w.value for w in weights], None, zero)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_sub(rate * tf.convert_to_tensor(gradient))
    return float(loss), values(model)


@pytest.mark.parametrize(
    ("kind", "side"), [("image", "text_model"), ("text", None), ("sum", None)]
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_side_that_a_fusion_leaves_out_is_not_moved(
    experiment, small, kind, side, count
):
    _, _, made = batches_of(experiment, small)
    model = dual_encoder(small, heads_for(kind))
    start = values(model)
    stepped(model, made(0, 0, count))
    found = values(model)
    batches = made(0, 0, count)
    for variable in model.variables:
        variable.assign(start[variable.path])
    _, expected = at_once(model, batches)
    for path in [w.path for w in model.trainable_weights]:
        change = np.abs(expected[path] - start[path].astype("float64")).max()
        np.testing.assert_allclose(
            found[path], expected[path], atol=1e-6 + 2e-3 * change, err_msg=path
        )
    for weight in getattr(model, side).trainable_weights if side else []:
        np.testing.assert_array_equal(found[weight.path], start[weight.path])


# === The course ===


def tuning_of(experiment, composed, **settings):
    plain = experiment.config.model_dump()
    plain["phase2"] |= settings
    return FineTuning(
        experiment.raw_pairs("train"),
        experiment.raw_pairs("val"),
        experiment.image_encoder,
        experiment.text_encoder,
        load_heads(Run(composed.folder)),
        config_from(plain, "test"),
        say=lambda line: None,
    )


@pytest.fixture(scope="module")
def shared(experiment, composed):
    """One fine-tuning, changed by test after test."""
    tuning = tuning_of(experiment, composed)
    start = [v.numpy() for v in tuning.tuner.state()]
    return SimpleNamespace(tuning=tuning, start=start)


@pytest.fixture
def anew(shared):
    """The shared fine-tuning as a new process would make it, compiled already."""

    def begin(folder=None):
        tuning = shared.tuning
        for variable, value in zip(tuning.tuner.state(), shared.start, strict=True):
            variable.assign(value)
        tuning.path = folder / "checkpoint.npz" if folder else None
        tuning.selection = Selection(tuning.settings, "phase2")
        tuning.history, tuning.start = [], {}
        tuning.step, tuning._loss_sum = 0, 0.0
        return tuning

    return begin


def test_step_zero_measures_as_phase_1_ended(composed, anew):
    """Of the epoch that phase 1 kept."""
    tuning = anew()
    found = tuning._evaluate()
    history = np.genfromtxt(
        composed.folder / "metrics.csv", delimiter=",", names=True, deletechars=""
    )
    kept = Run(composed.folder).read_json("training.json")["kept_epoch"]
    for name, value in found.items():
        assert value == pytest.approx(history[f"val/{name}"][kept - 1], abs=1e-3), name
    assert "composed/recall@10" in found


def test_a_stopped_training_ends_with_the_same_bits(anew, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "CHECKPOINT_EVERY_SECONDS", 0.0)
    whole = anew()
    assert whole.steps > 1
    whole.run(lambda history: None)
    expected = [v.numpy() for v in whole.model.variables]
    losses = [row["loss"] for row in whole.history]
    one_step, calls = FineTuning._one_step, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == whole.steps + 2:  # the second step of the second epoch
            raise KeyboardInterrupt
        return one_step(self, *arguments)

    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt, match="epoch 2"),
    ):
        patch.setattr(FineTuning, "_one_step", interrupted)
        anew(tmp_path).run(lambda history: None)
    resumed = anew(tmp_path)
    resumed.run(lambda history: None)
    assert [row["loss"] for row in resumed.history] == losses
    for variable, value in zip(resumed.model.variables, expected, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_several_devices_are_refused(experiment, shared):
    tuning = shared.tuning
    encoders = (experiment.image_encoder, experiment.text_encoder)
    for count, settings, message in (
        (2, {}, "2 devices, but a fusion is fine-tuned on one.*CUDA_VISIBLE_DEVICES"),
        (1, {"auxiliary_layer": "conv_pw_1_relu"}, "auxiliary_layer is for pictures"),
    ):
        replicas = Replicas()
        replicas.count = count
        plain = experiment.config.model_dump()
        plain["phase2"] |= settings
        config = config_from(plain, "test")
        with pytest.raises(InputError, match=message):
            RawTripletJob(tuning.train, None, tuning.model, encoders, config, replicas)


# === The command ===


def fine_tune(home, *settings):
    extra = [f"phase2.{name}={json.dumps(value)}" for name, value in EXTRA.items()]
    models = f"models={home.folder / 'models'}"
    overrides = [*home.settings, *extra, "phase2.epochs=1", models, *settings]
    parts = (part for each in overrides for part in ("--set", each))
    with encoders_anew():
        return run("train", "--phase", 2, *parts, report=True)


def test_the_command_leaves_a_model_a_comparison_and_a_report(composed_home, composed):
    said = fine_tune(composed_home)
    assert said.code == 0, said.err
    folder = composed_home.folder / "runs" / "composed-phase2"
    compared = Run(folder).read_json("comparison.json")
    found = Run(folder).read_json("evaluation.json")
    assert compared["split"] == found["split"] == "test"
    assert "phase 1 and phase 2 on 'test', paired" in said.out
    names = {row["metric"] for row in compared["metrics"]}
    assert "composed/recall@10" in names
    page = (folder / "report.html").read_text("utf-8")
    assert 'id="attention"' in page and 'id="phases"' in page
    model = load_model(composed_home.folder / "models" / "composed.keras")
    assert isinstance(model, DualEncoder) and model.heads.fusion.has_attention
    again = run("evaluate", folder)
    assert again.code == 0, again.err
    assert Run(folder).read_json("evaluation.json") == found


def test_a_phase_1_run_of_another_fusion_is_named(composed_home, composed):
    said = fine_tune(composed_home, "fusion.name=sum", "fusion.together_count=2")
    assert said.code == 1
    assert "fusion.name: 'attention' there, 'sum' now" in said.err
    assert "together" not in said.err  # batches may be filled in another way
