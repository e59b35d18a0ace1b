"""A collection encoded by the workers of a local Ray: the bits of one process."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from tiny import draw_data, run

from twinlens.index import load
from twinlens.search import build_index, open_model, pictures_in
from twinlens.search.ray_engine import RayEngine, Worker

PICTURES = 300  # two blocks of the default 256


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A folder of drawn pictures, one of them cut short."""
    folder = tmp_path_factory.mktemp("collection")
    draw_data(folder, PICTURES)
    broken = folder / "07.png"
    broken.write_bytes(broken.read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def ended():
    """Ends the Ray that a test has begun."""
    ray = pytest.importorskip("ray")
    yield
    ray.shutdown()


def cached_in(model, folder, **settings):
    """A model that keeps features elsewhere."""
    settings = {"path": str(folder), **settings}
    return replace(model, cache=model.cache.model_copy(update=settings))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ended")
def test_an_index_by_ray_is_that_of_one_process_to_the_bit(
    trained, collection, tmp_path
):
    plain = cached_in(open_model(trained.folder), tmp_path / "features")
    expected = build_index(plain, pictures_in(collection), tmp_path / "one").vectors
    said = run(
        *("index", "--run", trained.folder, "--index", tmp_path / "ray"),
        *("--pictures", collection, "--engine", "ray", "--workers", 2),
    )
    assert said.code == 0, said.err
    assert "Starting 2 workers" in said.out
    found = load(tmp_path / "ray")
    assert len(found) == PICTURES - 1
    assert found.items["id"].tolist() == expected.items["id"].tolist()
    np.testing.assert_array_equal(found.vectors[:], expected.vectors[:])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ended")
def test_workers_killed_in_the_middle_change_nothing(trained, collection, tmp_path):
    opened, items = open_model(trained.folder), pictures_in(collection)
    small = {"batch_size": 1}  # blocks of eight pictures
    plain = cached_in(opened, tmp_path / "one", **small).picture_features(items)
    model = cached_in(opened, tmp_path / "ray", **small)
    engine, killed = RayEngine(model, workers=2), []

    def interrupted(kind, pieces):
        for number, found in enumerate(engine(kind, pieces)):
            if number == 1:
                killed.extend(kill_workers())
            yield found

    found = replace(model, engine=interrupted).picture_features(items)
    assert killed
    np.testing.assert_array_equal(found.values, plain.values)
    assert found.errors.tolist() == plain.errors.tolist()
    assert found.folder.name == plain.folder.name


def kill_workers() -> list[int]:
    """Kills the processes of this Ray that encode."""
    family = psutil.Process().children(recursive=True)
    workers = [p.pid for p in family if "MapWorker" in " ".join(p.cmdline())]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    return workers


@pytest.mark.parametrize("digest", ["", "another"])
def test_a_worker_encodes_for_its_own_model_only(model, items, digest):
    cache = model.cache.model_copy(update={"batch_size": 5})  # two batches
    own = (Path.cwd(), cache, digest or model.digest)
    worker = Worker("pictures", model.folder, *own)
    files = items["image_path"].tolist()[:8]
    piece = {"files": [*files, files[0] + "x"], "contents": [""] * 9}
    found = worker({"piece": piece})
    if digest:
        assert "is not that of the machine where" in found["problem"]
        return
    expected, broken = replace(model, cache=cache).blocks("pictures")(piece)
    np.testing.assert_array_equal(found["features"], expected)
    assert list(broken) == [8] and json.loads(found["broken"]) == {"8": broken[8]}


def test_ray_that_is_missing_is_named_with_its_extra(trained, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = run("index", "--run", trained.folder, "--engine", "ray")
    assert said.code == 1 and 'pip install "twinlens[ray]"' in said.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--engine", "spark"),
        ("--address", "10.0.0.1:6379"),
        ("--workers", 2),
        ("--engine", "ray", "--remove", "1.png"),
    ],
)
def test_what_does_not_go_with_an_engine_is_refused(wrong):
    said = run("index", "--run", "any", *wrong)
    assert said.code == 1 and "--engine" in said.err
