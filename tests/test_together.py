"""Trainings beside one another: each as if it were alone, from programs they share."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from test_training import default, made_pairs, plainly_trained, settings, weights_of
from tiny import without_xla

from twinlens import commands
from twinlens.composed_experiment import open_experiment
from twinlens.config import load_config
from twinlens.errors import InputError
from twinlens.runs import Run
from twinlens.training import HeadTrainer, HeadTraining
from twinlens.training.numbers import Numbers, program_key
from twinlens.training.phase1 import load_heads
from twinlens.training.together import Job, Queue, train_together

FIRST = ["head.dropout=0.3", "phase1.ema_decay=0.9", "loss.label_smoothing=0.1"]
OTHER = [
    *("seed=3", "head.dropout=0.2", "phase1.ema_decay=0.8", "phase1.epochs=7"),
    *("loss.label_smoothing=0.05", "loss.temperature=0.1", "phase1.weight_decay=0.01"),
    *("phase1.learning_rate=0.003", "phase1.warmup_fraction=0.2"),
]


def on_program(programs, *overrides):
    with without_xla():
        training = HeadTraining(
            made_pairs(), made_pairs(seed=1), settings(*overrides), programs=programs
        )
        training.run(lambda history: None)
    return training


def test_a_run_on_the_program_of_another_is_the_run_alone():
    """Every number differs: rate, warm-up, decays, dropout, smoothing, temperature."""
    programs = {}
    on_program(programs, *FIRST)
    found = on_program(programs, *OTHER)
    assert len(programs) == 1
    alone = plainly_trained(settings(*OTHER), made_pairs(), made_pairs(seed=1))
    assert [r["loss"] for r in found.history] == [r["loss"] for r in alone.history]
    assert found.selection.best_epoch == alone.selection.best_epoch
    for one, two in zip(weights_of(found), weights_of(alone), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["soft_target", "triplet"])
def test_numbers_of_losses_are_given_under_xla_too(loss):
    programs, pairs = {}, (made_pairs(), made_pairs(seed=1))
    first = [f"loss.name={loss}", "phase1.schedule=cyclic"]
    other = [*first, "loss.margin=0.4", "loss.temperature=0.2", "head.dropout=0.2"]
    HeadTraining(*pairs, settings(*first), programs=programs).run(lambda _: None)
    found = HeadTraining(*pairs, settings(*other), programs=programs)
    found.run(lambda _: None)
    alone = HeadTraining(*pairs, settings(*other))
    alone.run(lambda _: None)
    assert len(programs) == 1
    for one, two in zip(weights_of(found), weights_of(alone), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_runs_in_turn_on_one_program_do_not_mix():
    programs, train = {}, made_pairs()
    with without_xla():
        a, b = (
            HeadTraining(train, None, settings(f"seed={seed}"), programs=programs)
            for seed in (0, 1)
        )
        a._start(), b._start()
        for _ in range(2):
            a._one_epoch()
            b._one_epoch()
    alone, _ = default()
    assert [r["loss"] for r in a.history] == [r["loss"] for r in alone.history[:2]]
    assert b.history[0]["loss"] != a.history[0]["loss"]


def test_the_key_of_a_program_ignores_numbers_and_sees_shapes():
    key = program_key(settings(), 4)
    same = ["seed=9", "head.dropout=0.4", "phase1.learning_rate=1", "phase1.patience=3"]
    assert program_key(settings(*same), 4) == key
    for other in (
        *("head.hidden_dim=8", "head.dropout=0", "loss.name=sigmoid"),
        *("phase1.batch_size=8", "phase1.warmup_fraction=0", "phase1.ema_decay=0.5"),
    ):
        assert program_key(settings(other), 4) != key


def test_numbers_are_put_back_after_a_trace():
    training = HeadTraining(made_pairs(), None, settings("head.dropout=0.5"))
    trainer = training.trainer
    numbers = Numbers(trainer.heads, trainer.loss, trainer.optimizer)
    assert np.int64(2**31) in numbers.values  # the limit of every second number
    with numbers.given([tf.constant(0.0)] * len(numbers.values)):
        assert trainer.optimizer.weight_decay.dtype == "float32"
    assert trainer.optimizer.weight_decay == settings().phase1.weight_decay


# === Who trains what ===


def job(key, result=None, wait=None):
    def train(programs, shown_by):
        programs.setdefault(key, object())
        with shown_by("training", 10, "pairs") as progress:
            if wait:
                wait.wait(5)
            for _ in range(10):
                progress.advance(1, "epoch")
        return result

    return Job(key, train)


def test_results_come_in_the_order_of_the_jobs():
    jobs = [job("ab"[number % 2], number) for number in range(7)]
    assert train_together(jobs, "pairs") == list(range(7))


def test_a_worker_keeps_to_what_its_programs_fit():
    queue = Queue([job(key) for key in "aabbbc"])
    first, second, third = {}, {}, {}
    assert queue.take(first) == 2  # most are left of b
    first["b"] = None
    assert queue.take(second) == 0  # two of a for nobody, two of b for one
    second["a"] = None
    assert queue.take(third) == 5
    assert [queue.take(first), queue.take(first)] == [3, 4]
    assert queue.take(first) == 1  # helps, for lack of its own
    assert queue.take(second) is None


def test_an_error_stops_the_others_and_is_the_error_of_all():
    event = threading.Event()

    def fail(programs, shown_by):
        event.set()
        raise InputError("The loss became nan.")

    def finish(programs, shown_by):
        time.sleep(0.02)  # the error arrives meanwhile
        finished.append(1)

    finished = []
    with pytest.raises(InputError, match="became nan"):
        later = [Job("b", finish) for _ in range(50)]
        train_together([Job("a", fail), job("a", wait=event), *later], "pairs")
    assert len(finished) < 50


# === Whole runs ===


@pytest.mark.slow
@pytest.mark.long
def test_folders_of_runs_together_are_those_of_runs_alone(home, tmp_path, monkeypatch):
    """Interrupted once on the way: an epoch fails, the same call goes on."""
    monkeypatch.setattr("twinlens.training.course.CHECKPOINT_EVERY_SECONDS", 0.0)
    folders, found = {}, {}
    for way in ("alone", "together"):
        config = load_config(None, [*home.settings, f"runs={tmp_path / way}"])
        experiment = open_experiment(config)
        configs = [commands.seeded(config, number) for number in range(3)]
        if way == "together":
            with monkeypatch.context() as patch, pytest.raises(InputError):
                patch.setattr(HeadTrainer, "run_epoch", failing(HeadTrainer.run_epoch))
                commands.train_all_heads(experiment, configs, False)
            found[way] = commands.train_all_heads(experiment, configs, False)
        else:
            found[way] = [commands.train_heads(experiment, c, False) for c in configs]
        folders[way] = [run.folder for run, _ in found[way]]
    for one, two in zip(*folders.values(), strict=True):
        names = [sorted(p.name for p in each.iterdir()) for each in (one, two)]
        assert one.name == two.name and names[0] == names[1]
        for name in ("evaluation.json", "versions.json"):
            assert (one / name).read_text("utf-8") == (two / name).read_text("utf-8")
        heads = [load_heads(Run(each)).get_weights() for each in (one, two)]
        for a, b in zip(*heads, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def failing(run_epoch):
    """The tenth epoch of all fails."""
    calls = []

    def run(*arguments):
        calls.append(arguments)
        if len(calls) == 10:
            raise InputError("No space left.")
        return run_epoch(*arguments)

    return run
