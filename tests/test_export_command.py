"""`export` as its user sees it, and its result where twinlens is not installed."""

import json
import os
import subprocess
import sys

import pytest
import tiny
from fine_tuned import EXTRA, encoders_anew

from twinlens.search import open_model

BLOCKED = "import sys; sys.modules['twinlens'] = None; "


def test_what_to_write_has_to_be_said(trained):
    said = tiny.run("export", trained.folder)
    assert said.code == 1
    assert "--out FOLDER" in said.err
    said = tiny.run("export", trained.folder, "--onnx", "--embeddings", "x.npy")
    assert said.code == 1
    assert "name its folder with --out" in said.err


def test_mistakes_are_named_before_anything_is_opened(trained, tmp_path):
    said = tiny.run("export", tmp_path / "none", "--out", tmp_path / "x")
    assert (said.code, "There is no run" in said.err) == (1, True)
    said = tiny.run("export", trained.folder, "--out", tmp_path)
    assert (said.code, "is there already" in said.err) == (1, True)
    said = tiny.run("export", trained.folder, "--projector", tmp_path)
    assert (said.code, "is there already" in said.err) == (1, True)
    out = tmp_path / "x"
    said = tiny.run("export", trained.folder, "--out", out, "--index", tmp_path)
    assert (said.code, "There is no index" in said.err) == (1, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_fine_tuned_run_is_exported_with_its_own_encoders(home, trained, tmp_path):
    settings = [*home.settings, *EXTRA, f"models={tmp_path}", f"runs={tmp_path}"]
    overrides = [part for each in settings for part in ("--set", each)]
    begun = ("train", "--phase", 2, "--from", trained.folder)
    folder = tmp_path / "tiny-phase2"
    with encoders_anew():
        said = tiny.run(*begun, *overrides)
        assert said.code == 0, said.err
        said = tiny.run("export", folder, "--out", tmp_path / "x", "--litert")
    assert said.code == 0, said.err
    assert "WARNING" not in said.err
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text("utf-8"))
    assert manifest["model"]["digest"] == open_model(folder).digest
    card = (tmp_path / "x" / "MODEL_CARD.md").read_text("utf-8")
    assert "fine-tuned end to end" in card
    assert "phase2.epochs = 1" in card


def python(code, *arguments):
    """A process that gets none of this one's paths."""
    environment = {"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
    )


@pytest.mark.slow
def test_an_export_is_used_where_twinlens_is_not(trained, index, items, tmp_path):
    out = tmp_path / "models" / "tiny"
    said = tiny.run(
        *("export", trained.folder, "--out", out, "--index", index.vectors.folder),
        *("--onnx", "--litert"),
    )
    assert said.code == 0, said.err
    found = json.loads((out / "manifest.json").read_text("utf-8"))["check"]
    assert max(found["differences"].values()) <= 1e-5
    assert set(found["formats"]) == {"onnx", "litert"}
    assert not list(out.parent.glob("*.partial"))

    pictures = items["image_path"].tolist()[:2]
    run = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
    used = python(run + "run_name='__main__')", out / "use.py", "a red disc", *pictures)
    assert used.returncode == 0, used.stderr
    assert [line.split("  ")[1] for line in used.stdout.splitlines()] == pictures

    alone = "import tensorflow as tf; tf.saved_model.load(sys.argv[1])"
    assert python(alone, out / "plain").returncode == 0
    whole = python(alone, out)
    assert whole.returncode == 1
    assert "Op type not registered" in whole.stderr
