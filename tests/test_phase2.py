"""Phase 2 as its user sees it: from phase 1 to a model, interrupted or not."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tiny import run

from twinlens.config import config_from
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.model import DualEncoder
from twinlens.runs import Run
from twinlens.training import diagnosis, finetuning
from twinlens.training.course import validation_metrics
from twinlens.training.finetuning import FineTuning
from twinlens.training.phase1 import load_heads
from twinlens.training.phase2 import load_model
from twinlens.training.selection import Selection
from twinlens.training.set_up import batches_a_step

EXTRA = [
    "phase2.epochs=1",
    "phase2.batch_size=4",
    "phase2.image_learning_rate=0",  # quick to compile; test_finetune trains both
    "phase2.evaluate_every=1",
]


def fine_tune(home, *more, settings=()):
    overrides = [*home.settings, *EXTRA, f"models={home.folder / 'models'}", *settings]
    parts = (part for each in overrides for part in ("--set", each))
    return run("train", "--phase", 2, *parts, *more)


@pytest.fixture(scope="module")
def tuned(home, trained):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiny._image_encoder", image_encoder_anew)
        patch.setattr("tiny._text_encoder", text_encoder_anew)
        said = fine_tune(home)
    assert said.code == 0, said.err
    folder = home.folder / "runs" / "tiny-phase2"
    return SimpleNamespace(said=said, folder=folder, run=Run(folder))


def image_encoder_anew(**settings):
    from twinlens.encoders import image_encoder

    return image_encoder(**settings)


def text_encoder_anew(corpus, **settings):
    from twinlens.encoders import text_encoder

    return text_encoder(corpus=corpus, **settings)


def tuning_of(experiment, trained, *settings):
    """A fine-tuning from the shared phase-1 run."""
    plain = experiment.config.model_dump()
    for each in settings:
        name, value = each.split("=")
        plain["phase2"][name] = json.loads(value)
    return FineTuning(
        experiment.raw_pairs("train"),
        experiment.raw_pairs("val"),
        experiment.image_encoder,
        experiment.text_encoder,
        load_heads(Run(trained.folder)),
        config_from(plain, "test"),
        say=lambda line: None,
    )


@pytest.fixture(scope="module")
def shared(home, trained):
    """One experiment and fine-tuning, changed by test after test."""
    plain = Run(trained.folder).config.model_dump()
    for each in (*EXTRA, "phase2.epochs=2"):
        name, value = each.removeprefix("phase2.").split("=")
        plain["phase2"][name] = json.loads(value)
    experiment = Experiment(config_from(plain, "test"))
    experiment.pairs("val")  # features of the encoders before they change
    tuning = tuning_of(experiment, trained)
    start = [v.numpy() for v in tuning.tuner.state()]
    return SimpleNamespace(experiment=experiment, tuning=tuning, start=start)


@pytest.fixture
def anew(shared, tmp_path):
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


def test_step_zero_measures_as_phase_1_ended(trained, shared, anew):
    pairs = shared.experiment.pairs("val")
    heads = load_heads(Run(trained.folder))
    images = heads.image_head(pairs.images[pairs.image_rows]).numpy()
    texts = heads.text_head(pairs.texts[pairs.text_rows]).numpy()
    expected = validation_metrics(images, texts, pairs)
    found = anew()._evaluate()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-3), name


def test_it_leaves_a_model_a_comparison_and_an_evaluation(home, tuned):
    assert (home.folder / "models" / "tiny.keras").exists()
    assert not (tuned.folder / "checkpoint.npz").exists()
    rows = json.loads((tuned.folder / "comparison.json").read_text("utf-8"))
    assert {"metric", "a", "b", "difference", "p_value"} == set(rows[0])
    found = tuned.run.read_json("evaluation.json")
    by_metric = {row["metric"]: row["b"] for row in rows}
    name = "text_to_image/recall@1"
    assert found["metrics"][name]["value"] == pytest.approx(by_metric[name])
    assert len(pd.read_csv(tuned.folder / "metrics.csv")) == 1
    assert "phase 1 and phase 2 on 'test', paired" in tuned.said.out


def test_the_model_loads_and_encodes(home, tuned):
    model = load_model(home.folder / "models" / "tiny.keras")
    assert isinstance(model, DualEncoder)
    vectors = model.encode_image(np.full((1, 75, 75, 3), 9.0, "float32")).numpy()
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)


def test_a_finished_run_is_measured_again_without_training(home, tuned):
    before = tuned.run.read_json("evaluation.json")
    again = run("evaluate", tuned.folder)
    assert again.code == 0, again.err
    assert tuned.run.read_json("evaluation.json") == before


def test_a_stopped_training_ends_with_the_same_bits(anew, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "CHECKPOINT_EVERY_SECONDS", 0.0)
    whole = anew()
    whole.run(lambda history: None)
    expected = [v.numpy() for v in whole.model.variables]
    losses = [row["loss"] for row in whole.history]
    one_step, calls = FineTuning._one_step, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 5:  # of 2 epochs of 3 steps: in the second epoch
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


def test_a_picture_that_vanishes_is_named(anew, monkeypatch):
    tuning = anew()
    lost = tuning.train.paths.copy()
    lost[:] = "/nowhere/lost.png"
    pairs = dataclasses.replace(tuning.train, paths=lost)
    monkeypatch.setattr(tuning.batches, "pairs", pairs)
    with pytest.raises(InputError, match="lost.png.*put the picture back"):
        tuning.run(lambda history: None)


def test_a_loss_that_is_no_number_stops_and_names_the_pictures(anew):
    tuning = anew()
    weight = tuning.model.heads.trainable_weights[0]
    weight.assign(np.full(weight.shape, np.nan))
    tuning.start = {"recall_sum": 0.0}  # as if it had been measured
    with pytest.raises(InputError, match=r"on the pictures .*\.png.*clip_norm"):
        tuning.run(lambda history: None)


def test_more_negatives_than_a_batch_train(trained, shared, anew):
    anew()
    tuning = tuning_of(shared.experiment, trained, "epochs=1", "negatives=8")
    assert (tuning.steps, tuning.step_pairs) == (1, 8)  # of 12 pictures
    before = tuning.model.heads.get_weights()
    tuning.start = {"recall_sum": 0.0}  # as if it had been measured
    tuning.val = None
    tuning.run(lambda history: None)
    (row,) = tuning.history
    assert np.isfinite(row["loss"]) and row["loss"] > 0
    after = tuning.model.heads.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


# === What the user can get wrong ===


def test_from_is_for_phase_2_and_wants_a_phase_1_run(tuned, home):
    said = run("train", "--phase", 1, "--from", tuned.folder)
    assert said.code == 1 and "--from names the one phase-1 run" in said.err
    said = fine_tune(home, "--from", tuned.folder)
    assert said.code == 1 and "is no phase-1 run" in said.err


def test_a_phase_2_that_undoes_phase_1_is_said_in_words():
    start = {"recall_sum": 2.0}
    (said,) = diagnosis.check_destroyed(start, {"val/recall_sum": 1.9})
    assert "under the level of phase 1" in said and "image_learning_rate" in said
    assert not diagnosis.check_destroyed(start, {"val/recall_sum": 2.0})
    assert not diagnosis.check_destroyed(start, {"loss": 1.0})  # not evaluated


def test_too_few_negatives_are_said_in_words():
    (said,) = diagnosis.check_negatives(8)
    assert said.startswith("Only 8 pairs meet") and "7 wrong pictures" in said
    assert not diagnosis.check_negatives(16)


def test_without_phase_1_the_error_says_what_to_do(home):
    said = fine_tune(home, "--name", "nothing")
    assert said.code == 1 and "--phase 1 first, or name another run" in said.err


def test_a_phase_1_run_of_other_heads_is_named(home, trained):
    said = fine_tune(home, "--from", trained.folder, settings=["head.hidden_dim=17"])
    assert said.code == 1
    assert "head.hidden_dim: 16 there, 17 now" in said.err


def test_negatives_that_no_batch_divides():
    with pytest.raises(InputError, match="phase2.batch_size = 4. Set it to 8"):
        batches_a_step(4, 9)
