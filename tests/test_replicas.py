"""Several devices and machines take the step that one device would have taken."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fine_tuned import cluster_of_two, started

from twinlens.errors import InputError
from twinlens.training.replicas import Replicas, find_replicas

JOB = Path(__file__).with_name("replica_job.py").read_text("utf-8")


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """What each way of sharing leaves: loss, weights, averages."""
    folder = tmp_path_factory.mktemp("replicas")
    jobs = {
        kind: started(JOB, kind, folder / f"{kind}.npz") for kind in ("one", "mirrored")
    }
    for index, setup in enumerate(cluster_of_two()):
        name = f"worker {index}"
        jobs[name] = started(JOB, "workers", folder / f"{name}.npz", **setup)
    found = {}
    for name, job in jobs.items():
        _, said = job.communicate(timeout=240)
        assert job.returncode == 0, said[-3000:]
        with np.load(folder / f"{name}.npz") as arrays:
            found[name] = dict(arrays)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mirrored", "worker 0", "worker 1"])
def test_replicas_take_the_step_of_one_device_on_the_whole_batch(steps, kind):
    expected, found = steps["one"], steps[kind]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name == "chief":
            continue
        np.testing.assert_allclose(
            found[name], value, rtol=1e-5, atol=1e-5, err_msg=name
        )


@pytest.mark.slow
def test_the_steps_do_change_the_weights(steps):
    one = steps["one"]
    assert one["sgd loss"][0] == pytest.approx(one["adamw loss"][0])  # the same start
    states = [name for name in one if name.startswith("sgd ") and name != "sgd loss"]
    pairs = [(one[name], one[name.replace("sgd", "adamw")]) for name in states[:4]]
    assert all((a != b).any() for a, b in pairs)  # but other ways


@pytest.mark.slow
def test_every_machine_hears_the_chief(steps):
    for kind in ("one", "mirrored", "worker 0", "worker 1"):
        assert steps[kind]["chief"].tolist() == ["0", "ö"], kind


def test_a_batch_that_replicas_cannot_share_is_refused():
    replicas = Replicas()
    replicas.check(7)
    replicas.count = 2
    with pytest.raises(InputError, match="which 2 replicas cannot.*Set it to 8"):
        replicas.check(7)


def test_the_loss_of_a_machine_says_what_to_do_and_other_errors_stay():
    gone = tf.errors.UnavailableError(None, None, "Connection reset by peer")
    replicas = Replicas()
    with pytest.raises(tf.errors.UnavailableError), replicas.telling_of_losses():
        raise gone  # of one machine, it is something else
    replicas.workers = 2
    with (
        pytest.raises(InputError, match="every machine its command again"),
        replicas.telling_of_losses(),
    ):
        raise gone
    with pytest.raises(tf.errors.NotFoundError), replicas.telling_of_losses():
        raise tf.errors.NotFoundError(None, None, "a picture")


@pytest.mark.parametrize("text", ["{", '{"cluster": {}}', '{"cluster": 3, "task": 1}'])
def test_a_tf_config_of_another_form_is_shown_the_right_one(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match='Expected.*"type": "worker"'):
        find_replicas()
