"""Phase 2 as its user sees it: from phase 1 to a model, interrupted or not."""

import dataclasses
import json
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from fine_tuned import (
    EXTRA,
    PROGRAM,
    cluster_of_two,
    encoders_anew,
    fine_tune,
    started,
    words,
)
from tiny import run

from twinlens.config import config_from
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.model import DualEncoder
from twinlens.runs import Run
from twinlens.search import open_model
from twinlens.training import diagnosis, finetuning
from twinlens.training.finetuning import FineTuning
from twinlens.training.jobs import validation_metrics
from twinlens.training.phase1 import load_heads
from twinlens.training.phase2 import load_model
from twinlens.training.selection import Selection
from twinlens.training.set_up import batches_a_step

COMMAND = "from twinlens.cli import main; main()"

pytestmark = pytest.mark.slow  # whole trainings, through the command


@pytest.fixture(scope="module")
def tuned(home, trained):
    with encoders_anew():
        said = fine_tune(home, report=True)
    assert said.code == 0, said.err
    folder = home.folder / "runs" / "tiny-phase2"
    return SimpleNamespace(said=said, folder=folder, run=Run(folder))


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
    for each in (*EXTRA, "phase2.epochs=2", "phase2.interpolation=0.5"):
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


def test_it_leaves_a_model_a_comparison_and_a_report(home, trained, tuned):
    assert (home.folder / "models" / "tiny.keras").exists()
    assert not (tuned.folder / "checkpoint.npz").exists()
    compared = tuned.run.read_json("comparison.json")
    found = tuned.run.read_json("evaluation.json")
    before = trained.evaluation  # the file may be of another split by now
    assert compared["split"] == found["split"] == "test"
    for row in compared["metrics"]:
        for letter, of in (("a", before), ("b", found)):
            entry = of["metrics"].get(row["metric"])
            if entry:
                ends = [row[f"{letter}_{end}"] for end in ("low", "high")]
                assert row[letter] == pytest.approx(entry["value"])
                assert ends == [entry["low"], entry["high"]]
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
    page = (tuned.folder / "report.html").read_text("utf-8")
    assert "What fine-tuning gained" in page and "difference, points" in page
    assert len(pd.read_csv(tuned.folder / "metrics.csv")) == 1
    assert "phase 1 and phase 2 on 'test', paired" in tuned.said.out


def test_the_model_loads_and_encodes(home, tuned):
    model = load_model(home.folder / "models" / "tiny.keras")
    assert isinstance(model, DualEncoder)
    vectors = model.encode_image(np.full((1, 32, 32, 3), 9.0, "float32")).numpy()
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


def test_a_machine_that_does_not_see_the_checkpoint_is_told(anew, monkeypatch):
    tuning = anew()
    monkeypatch.setattr(tuning.replicas, "from_chief", lambda mine: [1, 2])
    expected = r"stands at .*\[0, 0\].*at \[1, 2\].*same folder"
    with pytest.raises(InputError, match=expected):
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
    tuning = tuning_of(
        shared.experiment,
        trained,
        "epochs=1",
        "negatives=8",
        'auxiliary_layer="conv_pw_1_relu"',
    )
    extra = tuning.tuner.auxiliary.head
    extra_before = extra.get_weights()
    assert (tuning.steps, tuning.step_pairs) == (1, 8)  # of 12 pictures
    before = tuning.model.heads.get_weights()
    tuning.start = {"recall_sum": 0.0}  # as if it had been measured
    tuning.val = None
    tuning.run(lambda history: None)
    (row,) = tuning.history
    assert np.isfinite(row["loss"]) and row["loss"] > 0
    pairs = zip(extra_before, extra.get_weights(), strict=True)
    assert any((a != b).any() for a, b in pairs)
    after = tuning.model.heads.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_a_killed_process_goes_on_and_ends_with_the_same_bits(home, trained, tuned):
    more = ["--from", str(trained.folder), "--name", "killed"]
    dead = started(PROGRAM, *words(home), *more)
    _, said = dead.communicate(timeout=200)
    assert dead.returncode == -signal.SIGKILL, said
    folder = home.folder / "runs" / "killed-phase2"
    assert (folder / "checkpoint.npz").exists() and not Run(folder).is_trained
    with encoders_anew():
        said = fine_tune(home, *more)
    assert said.code == 0, said.err
    same_models(tuned.folder, folder)
    kept = ["epoch", "loss", "val/recall_sum"]
    first, second = (pd.read_csv(f / "metrics.csv") for f in (tuned.folder, folder))
    pd.testing.assert_frame_equal(first[kept], second[kept])


@pytest.fixture(scope="module")
def machines(home, trained):
    """What two machines said that nothing disturbed, and their run."""
    jobs = together(home, trained, "machines", (COMMAND, COMMAND))
    said = [job.communicate(timeout=400) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    return said, home.folder / "runs" / "machines-phase2"


def together(home, trained, name, programs):
    """Two machines begin phase 2."""
    more = ["--from", str(trained.folder), "--name", name]
    return [
        started(program, *words(home), *more, **setup)
        for program, setup in zip(programs, cluster_of_two(), strict=True)
    ]


def test_two_machines_leave_the_model_of_one(machines, tuned):
    said, folder = machines
    assert "phase 1 and phase 2" in said[0][0]
    assert "the first machine measures the model" in said[1][0]
    same_models(tuned.folder, folder, atol=1e-4)


@pytest.mark.parametrize("dies", [0, 1])
def test_a_machine_that_dies_and_comes_back_changes_nothing(
    home, trained, machines, dies
):
    saving = PROGRAM.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass")
    programs = [PROGRAM if place == dies else saving for place in (0, 1)]
    name = f"back{dies}"
    dead = together(home, trained, name, programs)
    _, said = dead[1 - dies].communicate(timeout=400)
    dead[dies].communicate(timeout=60)
    assert dead[dies].returncode == -signal.SIGKILL
    assert dead[1 - dies].returncode not in (0, None), said  # and it does not hang
    folder = home.folder / "runs" / f"{name}-phase2"
    with np.load(folder / "checkpoint.npz") as saved:
        assert json.loads(saved["progress"].tobytes())["step"] in (1, 2)
    back = together(home, trained, name, (COMMAND, COMMAND))
    said = [job.communicate(timeout=400) for job in back]
    assert [job.returncode for job in back] == [0, 0], said
    same_models(machines[1], folder)


def same_models(a, b, atol=0.0):
    one, two = (load_model(each / "model.keras") for each in (a, b))
    assert len(one.variables) == len(two.variables) > 0
    for x, y in zip(one.variables, two.variables, strict=True):
        np.testing.assert_allclose(
            x.numpy(), y.numpy(), rtol=0, atol=atol, err_msg=x.path
        )


# === What the user can get wrong ===


def test_from_is_for_phase_2_and_wants_a_phase_1_run(tuned, home):
    said = run("train", "--phase", 1, "--from", tuned.folder)
    assert said.code == 1 and "--from names the one phase-1 run" in said.err
    said = fine_tune(home, "--from", tuned.folder)
    assert said.code == 1 and "is no phase-1 run" in said.err


def test_a_phase_2_that_undoes_phase_1_is_said_in_words():
    start = {"recall_sum": 2.0}
    for epoch, said_then in (
        (1, "It may still recover"),
        (3, "The learning rates undo"),
    ):
        row = {"epoch": epoch, "val/recall_sum": 1.9}
        (said,) = diagnosis.check_destroyed(start, row, 3)
        assert f"under the level of phase 1 after epoch {epoch} of 3" in said
        assert said_then in said and "phase2.image_learning_rate" in said
    row = {"epoch": 1, "val/recall_sum": 2.0}
    assert not diagnosis.check_destroyed(start, row, 3)
    assert not diagnosis.check_destroyed(start, {"epoch": 1, "loss": 1.0}, 3)


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


def test_a_fine_tuned_model_searches(tuned):
    model = open_model(tuned.folder)
    trained = load_model(tuned.run.model_path)
    texts = ["a red disc", "a blue square"]
    inputs = model.text_encoder.inputs_of(tf.constant(texts))
    expected = trained.encode_text(inputs).numpy()
    np.testing.assert_allclose(model.embed_texts(texts), expected, atol=1e-5)
