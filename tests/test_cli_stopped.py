"""A training that is killed or interrupted, and goes on as if nothing had been."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from tiny import train

from twinlens.training.course import HeadTrainer

# Trains with a checkpoint each epoch and dies in the fourth.
PROGRAM = """
import os, signal, sys

import twinlens.commands
from twinlens import progress
from twinlens.training import course

course.CHECKPOINT_EVERY_SECONDS = progress.SILENT_SECONDS = 0.0
run_epoch, calls = course.HeadTrainer.run_epoch, []


def killed(self, *arguments):
    loss = run_epoch(self, *arguments)
    calls.append(loss)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


course.HeadTrainer.run_epoch = killed
from twinlens.cli import main

main()
"""
pytestmark = pytest.mark.slow  # starts three processes
NOISE = ("I0000", "W0000", "E0000", "oneDNN", "cudart", "WARNING")


def killed(settings):
    overrides = [part for each in settings for part in ("--set", each)]
    source = str(Path(__file__).parents[1] / "src")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "train", "--phase", "1", *overrides],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=120,
    )


def interrupted(settings):
    with pytest.MonkeyPatch.context() as patch:
        stop = lambda *_: signal.raise_signal(signal.SIGINT)  # noqa: E731
        patch.setattr(HeadTrainer, "run_epoch", stop)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:  # a shell starts background jobs with the signal ignored
            return train(settings)
        finally:
            signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def story(home, trained):
    """The shared training again: killed in epoch 4, then interrupted, then ended."""
    run = home.folder / "runs" / "stopped-phase1"
    settings = [*home.settings, "name=stopped"]
    after_kill = killed(settings)
    epochs = len(pd.read_csv(run / "metrics.csv"))
    after_interrupt = interrupted(settings)
    assert not (run / "heads.keras").exists()
    return SimpleNamespace(
        killed=after_kill,
        epochs=epochs,
        interrupted=after_interrupt,
        ended=train(settings),
        runs=(trained.folder, run),
    )


def test_a_killed_training_keeps_the_epochs_before(story):
    assert story.killed.returncode == -signal.SIGKILL and story.epochs == 3
    assert story.ended.code == 0


def test_ctrl_c_ends_with_a_sentence_and_status_130(story):
    assert story.interrupted.code == 130
    assert story.interrupted.err.strip() == (
        "Interrupted in epoch 4. The same command goes on from the last checkpoint."
    )


def test_a_stopped_training_ends_with_the_same_bits(story):
    a, b = (keras.saving.load_model(run / "heads.keras") for run in story.runs)
    assert len(a.variables) == len(b.variables) > 0
    for one, two in zip(a.variables, b.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    kept = ["epoch", "loss", "scale", "val/recall_sum"]
    one, two = (pd.read_csv(run / "metrics.csv")[kept] for run in story.runs)
    pd.testing.assert_frame_equal(one, two)


def test_progress_is_plain_lines_where_there_is_no_terminal(story):
    lines = story.killed.stderr.splitlines()
    (line,) = [line for line in lines if line.startswith("training the heads: ")]
    assert re.match(
        r"training the heads: \d+ of \d+ pairs · .*epoch 1 of 6 · loss", line
    )
    assert "\x1b" not in story.killed.stderr


def test_tensorflow_says_nothing_at_its_start(story):
    said = story.killed.stdout + story.killed.stderr
    assert "25 pictures (13 train, 6 val, 6 test)" in said
    assert [word for word in NOISE if word in said] == []
