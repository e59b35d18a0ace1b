"""Phase 1 on JAX: the numbers of TensorFlow, and clear words where it cannot."""

import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from fine_tuned import EXTRA, encoders_anew, started
from jax_job import ten_steps
from tiny import run

from twinlens.backend import check_choice, need_tensorflow
from twinlens.errors import InputError
from twinlens.heads import Dropout

JOB = Path(__file__).with_name("jax_job.py").read_text("utf-8")
COMMAND = "from twinlens.cli import main; main()"


def finished(job: subprocess.Popen) -> tuple[str, str]:
    """What a process that ended well said."""
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err[-3000:]
    return out, err


@pytest.mark.slow
def test_ten_steps_on_jax_lose_what_they_lose_on_tensorflow(trained, tmp_path):
    pytest.importorskip("jax")
    # Initial weights are each backend's own: TensorFlow leaves them for JAX.
    arguments, out = (trained.folder, tmp_path / "start.keras"), tmp_path / "jax.npz"
    expected = ten_steps(*arguments)
    finished(started(JOB, *arguments, out, KERAS_BACKEND="jax"))
    with np.load(out) as found:
        assert (found["backend"], expected["backend"]) == ("jax", "tensorflow")
        losses = expected["losses"]
        np.testing.assert_allclose(found["losses"], losses, atol=1e-4)
        for name in expected.keys() - {"backend", "losses"}:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
    assert losses[0] - losses[-1] > 0.1  # which are not the same for want of learning


@pytest.mark.slow
@pytest.mark.long
def test_a_run_of_jax_is_one_that_tensorflow_measures_and_fine_tunes(home):
    pytest.importorskip("jax")
    settings = [*home.settings, "name=jax", f"models={home.folder / 'models'}"]
    words = [part for each in settings for part in ("--set", each)]
    _, said = finished(
        started(COMMAND, "train", "--phase", 1, *words, KERAS_BACKEND="jax")
    )
    assert "Warning" not in said.replace("Warning: The loss", "")
    folder = home.folder / "runs" / "jax-phase1"
    versions = json.loads((folder / "versions.json").read_text("utf-8"))
    assert versions["keras backend"] == "jax" and versions["jax"][0].isdigit()
    there = json.loads((folder / "evaluation.json").read_text("utf-8"))["metrics"]
    assert run("evaluate", folder).code == 0
    here = json.loads((folder / "evaluation.json").read_text("utf-8"))["metrics"]
    assert here.keys() == there.keys()
    for name, values in there.items():
        assert here[name]["value"] == pytest.approx(values["value"], abs=1e-6), name
    extra = (part for each in EXTRA for part in ("--set", each))
    with encoders_anew():
        fine_tuned = run("train", "--phase", 2, *words, *extra)
    assert fine_tuned.code == 0, fine_tuned.err


@pytest.mark.slow
def test_on_jax_phase_2_says_what_to_do_and_leaves_no_folder(home):
    pytest.importorskip("jax")
    words = [part for each in home.settings for part in ("--set", each)]
    command = ("train", "--phase", 2, *words, "--name", "none")
    job = started(COMMAND, *command, KERAS_BACKEND="jax")
    _, said = job.communicate(timeout=300)
    assert job.returncode == 1 and "Give the same command without" in said
    assert not (home.folder / "runs" / "none-phase2").exists()


@pytest.mark.parametrize("what", ["Encoders", "Fine-tuned models"])
def test_what_needs_tensorflow_says_what_jax_can_do(monkeypatch, what):
    need_tensorflow(what)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InputError, match=f"{what} run on.*without KERAS_BACKEND"):
        need_tensorflow(what)


def test_a_backend_that_is_not_ours_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(InputError, match="'torch'.*tensorflow or jax"):
        check_choice()


def test_jax_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "twinlens\[jax\]"'):
        check_choice()


@pytest.mark.parametrize("seed", [0, 40_000, 70_000])
def test_the_count_of_a_mask_fits_32_bits_and_is_the_seed_in_the_upper_half(seed):
    layer = Dropout(0.5, seed)
    layer.build((None, 4))
    start = int(layer.step.numpy())
    assert -(2**31) <= start < 2**31
    assert start % 2**32 == seed % 2**16 * 2**16  # as unsigned bits
