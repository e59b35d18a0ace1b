"""Full and read-only disks, files that go away, clocks that go back.

Each ends in a sentence or in the right result, and what was written before stays.
"""

import os
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_disk import disk as disk
from test_vector_index import expected, items_of, made, vectors_of

from twinlens.config import Config
from twinlens.errors import InputError
from twinlens.features import store
from twinlens.features.contents import content_digests
from twinlens.index import load
from twinlens.index.folder import new_index_folder
from twinlens.ratings import RatingFile, Shown, read_ratings
from twinlens.runs import Run, start_run
from twinlens.training.checkpoint import load_checkpoint, save_checkpoint
from twinlens.training.phase1 import EpochLog, load_heads
from twinlens.writing import whole_file

ROOM = "[Nn]o room"


def job_of(rows=64, dim=1000, stop=None):
    """Rows that hold their number; `stop(first)` is called before a block."""

    def encode(pieces):
        for piece in pieces:
            if stop is not None:
                stop(piece["numbers"][0])
            yield np.repeat(piece["numbers"][:, None], dim, 1), {}

    ids = np.array([f"item {n}" for n in range(rows)], dtype=object)
    return store.Job(
        key={"encoder": "numbers"},
        ids=ids,
        contents=np.full(rows, ""),
        shape=(dim,),
        dtype="float32",
        block_size=8,
        piece=lambda *ends: {"numbers": np.arange(*ends, dtype=np.float32)},
        encode=encode,
        what="encoding numbers",
        unit="numbers",
    )


def check_features(features, rows=64):
    np.testing.assert_array_equal(features.values[:, 0], np.arange(rows))


# === Files that are whole or not there ===


def test_a_whole_file_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.suffix == ".json"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "error", [OSError(28, "full"), KeyboardInterrupt(), KeyError()]
)
def test_a_file_that_could_not_be_written_leaves_the_one_before(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    kind = InputError if isinstance(error, OSError) else BaseException
    with pytest.raises(kind), whole_file(path) as partial:
        partial.write_text("ne")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


# === A full disk ===


def test_features_that_do_not_fit_are_said_before_the_work(disk):
    disk.fill(but=100_000)  # 64 rows take 256,000
    job = job_of(stop=lambda _: pytest.fail("worked"))
    with pytest.raises(InputError, match=ROOM):
        store.complete(disk.path / "cache", job)
    disk.make_room()
    check_features(store.complete(disk.path / "cache", job_of()))


def test_a_disk_that_fills_up_while_features_are_encoded_costs_a_block(disk):
    done = []

    def stop(first):
        done.append(first)
        if len(done) == 3:
            disk.fill()

    cache = disk.path / "cache"
    with pytest.raises(InputError, match="what is encoded is kept"):
        store.complete(cache, job_of(stop=stop))
    disk.make_room()
    check_features(store.complete(cache, job_of(stop=done.append)))
    again = len(done) - len(set(done))
    assert set(done) == set(range(0, 64, 8)) and again <= 1


@pytest.mark.slow
def test_digests_that_cannot_be_remembered_are_said(disk, tmp_path):
    paths = []
    for number in range(200):
        paths.append(str(tmp_path / f"{number}.png"))
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    time.sleep(1.1)  # else they are too new to be remembered
    memory = disk.path / "contents.sqlite"
    disk.fill(but=8192)
    with pytest.raises(InputError, match="Cannot keep the pictures' digests"):
        content_digests(paths, memory)
    disk.make_room()
    assert len(set(content_digests(paths, memory))) == 200


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(disk):
    path = disk.path / "checkpoint.npz"
    state = [tf.Variable(tf.ones(20_000))]
    save_checkpoint(path, state, [], {"epoch": 1})
    disk.fill(but=50_000)
    state[0].assign_add(tf.ones(20_000))
    with pytest.raises(InputError, match=ROOM):
        save_checkpoint(path, state, [], {"epoch": 2})
    _, progress = load_checkpoint(path, state)
    assert progress == {"epoch": 1} and state[0].numpy().max() == 1


def test_a_run_that_cannot_be_written_says_so_and_keeps_what_it_has(disk):
    run = start_run(Config(runs=str(disk.path / "runs")), phase=1)
    run.write_json("training.json", {"epochs": 1})
    log = EpochLog(run)
    history = [{"epoch": 1, "loss": 1.0}]
    log(history)
    disk.fill()
    with pytest.raises(InputError, match=ROOM):
        run.write_json("training.json", {"epochs": list(range(1000))})
    with pytest.raises(InputError, match=ROOM):
        log([*history, {"epoch": 2, "loss": 0.5}])
    disk.make_room()
    assert run.read_json("training.json") == {"epochs": 1}
    assert run.history()["loss"].tolist() == [1.0]


def test_heads_that_do_not_fit_leave_the_ones_before(disk):
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    run = Run(disk.path)
    model.save(run.heads_path)
    before = run.heads_path.read_bytes()
    disk.fill(but=20_000)
    with pytest.raises(InputError, match=ROOM), whole_file(run.heads_path) as path:
        model.save(path)
    assert run.heads_path.read_bytes() == before
    np.testing.assert_array_equal(
        load_heads(run).get_weights()[0], model.get_weights()[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["flat", "hnsw"])
@pytest.mark.parametrize("room", [0, 20_000, 60_000])
def test_an_index_that_cannot_grow_stays_as_it_was(disk, backend, room):
    index = made(disk.path / "index", backend=backend)
    queries = vectors_of(5, seed=3)
    before = index.search(queries, 5)
    files = sorted(path.name for path in index.folder.iterdir())
    disk.fill(but=room)
    with pytest.raises(InputError, match="room|cannot be written"):
        index.add(items_of(2000, start=500), [vectors_of(2000, seed=1)])
    for each in (index, load(index.folder)):
        assert len(each) == 500
        np.testing.assert_array_equal(each.search(queries, 5)[1], before[1])
    assert sorted(path.name for path in index.folder.iterdir()) == files
    disk.make_room()
    load(index.folder).add(items_of(2000, start=500), [vectors_of(2000, seed=1)])
    everything = np.concatenate([vectors_of(500), vectors_of(2000, seed=1)])
    found = load(index.folder).search(queries, 5, exactly=True)[1]
    np.testing.assert_array_equal(found, expected(everything, queries, 5))


def test_an_index_that_does_not_fit_leaves_nothing(disk):
    disk.fill(but=100_000)
    with pytest.raises(InputError, match=ROOM), new_index_folder(disk.path / "i") as at:
        made(at, count=5000)
    assert sorted(os.listdir(disk.path)) == ["filling", "i.lock"]


def test_a_rating_that_cannot_be_kept_is_said_and_those_before_stay(disk):
    file = RatingFile(disk.path / "ratings.sqlite")
    shown = Shown("d" * 32, "run", "red", "", "", "", {}, (("a", 1.0),))
    file.add("somebody", shown, match=3, satisfaction=3)
    disk.fill()
    with pytest.raises(InputError, match="Ratings cannot be kept .*full"):
        file.add("somebody else", shown, match=4, satisfaction=4)
    disk.make_room()
    assert read_ratings(file.path)["match"].tolist() == [3]
    file.add("somebody else", shown, match=4, satisfaction=4)
    assert read_ratings(file.path)["match"].tolist() == [3, 4]


# === A folder that may only be read ===


@pytest.mark.slow
def test_what_is_on_a_read_only_disk_is_used_and_not_changed(disk, tmp_path):
    cache, index = disk.path / "cache", made(disk.path / "index")
    picture = tmp_path / "a.png"
    picture.write_bytes(b"a")
    time.sleep(1.1)
    digests = content_digests([str(picture)], disk.path / "contents.sqlite")
    store.complete(cache, job_of())
    disk.read_only()
    check_features(store.complete(cache, job_of(stop=lambda _: pytest.fail())))
    memory = disk.path / "contents.sqlite"
    assert content_digests([str(picture)], memory) == digests
    assert len(load(index.folder)) == 500
    with pytest.raises(InputError, match="cannot be written .*Read-only"):
        load(index.folder).remove(["item0000"])
    with pytest.raises(InputError, match="cannot be written .*Read-only"):
        load(index.folder).add(items_of(1, start=500), [vectors_of(1)])
    with pytest.raises(InputError, match="folder that can be written"):
        store.complete(cache, job_of(rows=8))
    with pytest.raises(InputError, match="folder that can be written"):
        start_run(Config(runs=str(disk.path / "runs")), phase=1)
    with pytest.raises(InputError, match="cannot be written .*Read-only"):
        save_checkpoint(disk.path / "checkpoint.npz", [], [], {})


# === Files that go away ===


@pytest.mark.parametrize("name", ["features.npy", "ids.parquet"])
def test_a_file_taken_from_the_cache_is_said(tmp_path, name):
    features = store.complete(tmp_path, job_of())
    (features.folder / name).unlink()
    check_features(features)  # is open
    with pytest.raises(InputError, match="Remove the folder; the same command"):
        store.complete(tmp_path, job_of())


def test_a_cache_cut_short_is_said(tmp_path):
    folder = store.complete(tmp_path, job_of()).folder
    os.truncate(folder / "features.npy", 1000)
    with pytest.raises(InputError, match="Remove the folder"):
        store.complete(tmp_path, job_of())


@pytest.mark.parametrize("what", ["features.npy", "journal.jsonl", ""])
def test_a_cache_taken_away_while_it_is_filled_is_said_or_filled_again(tmp_path, what):
    def stop(first):
        if first == 24:
            (partial,) = tmp_path.glob("*.partial")
            found = [partial / what] if what else list(partial.iterdir())
            for path in found:
                path.unlink()
            if not what:
                partial.rmdir()

    try:
        check_features(store.complete(tmp_path, job_of(stop=stop)))
    except InputError as error:
        assert "cache" in str(error)
    for folder in tmp_path.iterdir():
        if folder.is_dir():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    check_features(store.complete(tmp_path, job_of()))


def test_an_index_taken_away_answers_on_and_is_missed_when_it_changes(tmp_path):
    index = made(tmp_path / "index", backend="hnsw")
    queries = vectors_of(5, seed=3)
    before = index.search(queries, 5)
    for path in index.folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(index.search(queries, 5)[1], before[1])
    index.folder.rmdir()
    with pytest.raises(InputError, match="cannot be written|no index"):
        index.remove(["item0000"])
    with pytest.raises(InputError, match="no index"):
        load(index.folder)


def test_a_run_folder_taken_away_is_said_at_the_next_checkpoint(tmp_path):
    with pytest.raises(InputError, match="cannot be written .*No such file"):
        save_checkpoint(tmp_path / "gone" / "checkpoint.npz", [], [], {})


# === Two at once ===


def test_two_builders_of_one_index_do_not_meet(tmp_path):
    with new_index_folder(tmp_path / "index") as one:
        made(one)
        with (
            pytest.raises(InputError, match="Another process is writing"),
            new_index_folder(tmp_path / "index"),
        ):
            pytest.fail("both build")
    assert len(load(tmp_path / "index")) == 500
    assert sorted(os.listdir(tmp_path)) == ["index", "index.lock"]


def test_what_a_killed_builder_left_is_not_there_for_ever(tmp_path):
    (tmp_path / "index.partial").mkdir()
    (tmp_path / "index.partial" / "vectors.f32").write_bytes(b"half")
    with new_index_folder(tmp_path / "index") as folder:
        made(folder)
    assert len(load(tmp_path / "index")) == 500


# === The clock ===


def rewritten(path, contents):
    """Another file of the same size whose time of change says that it is the same."""
    before = os.stat(path)
    path.write_bytes(contents)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_changed_picture_is_seen_whatever_the_clock_says(
    tmp_path, monkeypatch, hours
):
    path, memory = tmp_path / "a.png", tmp_path / "contents.sqlite"
    path.write_bytes(b"one")
    clock = time.time_ns
    off = int(hours * 3.6e12)
    monkeypatch.setattr(time, "time_ns", lambda: clock() + off)
    (one,) = content_digests([str(path)], memory)
    time.sleep(0.02)  # the file system's clock ticks
    rewritten(path, b"two")
    monkeypatch.setattr(time, "time_ns", clock)
    (two,) = content_digests([str(path)], memory)
    assert one != two


def test_a_change_within_a_tick_of_the_clock_is_seen(tmp_path):
    path, memory = tmp_path / "a.png", tmp_path / "contents.sqlite"
    path.write_bytes(b"0")
    found = []
    for number in range(50):
        rewritten(path, str(number % 10).encode())
        found += content_digests([str(path)], memory)
    assert found[:10] * 5 == found and len(set(found)) == 10


def test_pictures_from_the_future_are_digested_and_jobs_end(tmp_path, monkeypatch):
    path, memory = tmp_path / "a.png", tmp_path / "contents.sqlite"
    path.write_bytes(b"one")
    os.utime(path, (4e9, 4e9))  # in 2096
    (one,) = content_digests([str(path)], memory)
    clock = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))  # back, and back
    check_features(store.complete(tmp_path / "cache", job_of()))
    assert content_digests([str(path)], memory) == [one]


def test_a_changed_index_is_seen_though_its_time_stays(tmp_path):
    index = made(tmp_path / "index")
    opened = load(index.folder)
    info = index.folder / "index.json"
    before = os.stat(info)
    index.remove(["item0000"])
    os.utime(info, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not opened.is_newest() and load(index.folder).is_newest()
