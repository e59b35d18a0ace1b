"""Indexes find what exact comparison finds, grow, shrink, and survive interruptions."""

import json

import numpy as np
import pandas as pd
import pytest

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.index import create, load, near_duplicates
from twinlens.index.backends import FEW
from twinlens.index.folder import writing

DIM = 16
MODEL = {"name": "run-phase1", "digest": "0" * 32, "run": "runs/run-phase1"}


def items_of(count, start=0):
    names = [f"item{number:04}" for number in range(start, start + count)]
    return pd.DataFrame(
        {
            "id": names,
            "image_path": [f"{name}.jpg" for name in names],
            "title": [f"title of {name}" for name in names],
            "split": ["train", "test"] * (count // 2) + ["train"] * (count % 2),
            "year": np.arange(start, start + count) % 10,
        }
    )


def vectors_of(count, seed=0, clusters=20):
    """Unit vectors in clusters, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, DIM))
    found = centres[random.integers(clusters, size=count)]
    found = found + 0.3 * random.normal(size=(count, DIM))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def made(folder, count=500, **settings):
    index = create(folder, {"image": DIM}, IndexSettings(**settings), MODEL)
    index.add(items_of(count), [vectors_of(count)])
    return index


def expected(vectors, queries, k, allowed=None):
    scores = queries @ vectors.T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def share(found, true):
    """Of the true neighbours, how many were found."""
    pairs = zip(found, true, strict=True)
    return np.mean([len({*one} & {*other}) / len(other) for one, other in pairs])


BACKENDS = {
    "flat": {},
    "hnsw": {"hnsw_links": 16},
    "ivf_pq": {"ivf_lists": 8, "ivf_probes": 8, "pq_bytes": 8},
}


@pytest.fixture(params=BACKENDS)
def backend(request):
    return {"backend": request.param, **BACKENDS[request.param]}


@pytest.fixture
def queries():
    return vectors_of(30, seed=5)


# === Finding ===


def test_flat_search_finds_the_exact_neighbours(tmp_path, queries):
    index = made(tmp_path / "index")
    scores, rows = index.search(queries, 10)
    np.testing.assert_array_equal(rows, expected(vectors_of(500), queries, 10))
    products = np.einsum("qd,qkd->qk", queries, vectors_of(500)[rows])
    np.testing.assert_allclose(scores, products, atol=1e-6)


def test_every_backend_finds_nearly_all_with_exact_scores(tmp_path, backend, queries):
    index = made(tmp_path / "index", **backend)
    scores, rows = index.search(queries, 10)
    true = expected(vectors_of(500), queries, 10)
    assert share(rows, true) > 0.97
    products = np.einsum("qd,qkd->qk", queries, vectors_of(500)[rows])
    np.testing.assert_allclose(scores, products, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    _, exact_rows = index.search(queries, 10, exactly=True)
    np.testing.assert_array_equal(exact_rows, true)


@pytest.mark.parametrize("where", ["year = 3", "year != 3", 'split = "test"'])
def test_filters_leave_exactly_what_passes(tmp_path, backend, queries, where):
    index = made(tmp_path / "index", **backend)
    _, rows = index.search(queries, 10, where)
    allowed = index.selection(where).mask
    assert allowed[rows].all()
    true = expected(vectors_of(500), queries, 10, allowed)
    assert share(rows, true) > 0.97


def test_filters_that_leave_the_nearest_out_still_find_the_best(tmp_path, backend):
    index = create(tmp_path / "index", {"image": DIM}, IndexSettings(**backend), MODEL)
    random = np.random.default_rng(3)
    centres = random.normal(size=(10, DIM))
    vectors = centres[np.arange(2000) % 10] + 0.1 * random.normal(size=(2000, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f4")
    index.add(items_of(2000), [vectors])  # the year is the cluster
    queries = vectors[:200:10]  # of cluster 0
    for where in ("year != 0", "year = 7", "not year in (0, 1, 2)"):
        _, rows = index.search(queries, 10, where)
        true = expected(vectors, queries, 10, index.selection(where).mask)
        assert share(rows, true) > 0.97
    index.remove(index.items["id"][index.items["year"] == 0])
    _, rows = index.search(queries, 10)
    true = expected(vectors, queries, 10, index.items["year"].to_numpy() > 0)
    assert share(rows, true) > 0.97


def test_large_selections_are_compared_without_a_copy(tmp_path, queries, monkeypatch):
    index = made(tmp_path / "index")
    monkeypatch.setattr("twinlens.index.backends.GATHERED", 10)
    few, allowed = queries[:5], index.selection("year > 4").mask
    _, rows = index.search(few, 7, "year > 4")
    np.testing.assert_array_equal(rows, expected(vectors_of(500), few, 7, allowed))


@pytest.mark.parametrize("where", ["", "year > 4"])
def test_many_queries_find_what_each_finds_alone(tmp_path, queries, where, monkeypatch):
    monkeypatch.setattr("twinlens.metrics.nearest.FIRST", 50)
    index = made(tmp_path / "index")
    scores, rows = index.search(queries, 7, where)
    alone = [index.search(query[None], 7, where) for query in queries]
    assert len(queries) > FEW
    np.testing.assert_array_equal(rows, np.concatenate([each[1] for each in alone]))
    np.testing.assert_allclose(scores, np.concatenate([e[0] for e in alone]), atol=1e-6)


def test_more_answers_than_items_end_with_none(tmp_path, backend, queries):
    index = made(tmp_path / "index", count=300, **backend)
    scores, rows = index.search(queries, 40, "year = 3")
    assert (rows[:, :30] >= 0).all() and (rows[:, 30:] == -1).all()
    assert np.isneginf(scores[:, 30:]).all()
    _, rows = index.search(queries, 400)
    assert (np.sort(rows, axis=1)[:, 100:] == np.arange(300)).all()
    assert index.search(queries, 3, "year > 99")[1].max() == -1


def test_a_query_does_not_find_what_it_is_without(tmp_path, backend):
    index = made(tmp_path / "index", **backend)
    own = np.arange(20)
    _, plain = index.search(vectors_of(500)[:20], 6)
    _, rows = index.search(vectors_of(500)[:20], 5, without=own)
    np.testing.assert_array_equal(plain[:, 0], own)
    np.testing.assert_array_equal(rows, plain[:, 1:])


# === Changes ===


def test_an_index_grows_and_shrinks_without_a_rebuild(tmp_path, backend, queries):
    index = made(tmp_path / "index", **backend)
    more = vectors_of(100, seed=1)
    assert index.add(items_of(100, start=500), [more[:60], more[60:]]) == 0
    gone = [f"item{number:04}" for number in range(0, 600, 3)]
    index.remove(gone)
    everything = np.concatenate([vectors_of(500), more])
    for each in (index, load(tmp_path / "index")):
        assert len(each) == 400
        _, rows = each.search(queries, 10)
        assert not (rows % 3 == 0).any()
        true = expected(everything, queries, 10, np.arange(600) % 3 > 0)
        assert share(rows, true) > 0.97
    files = sorted(path.name for path in (tmp_path / "index").iterdir())
    kept = ["index.json", "items-3.parquet", "lock", "vectors.f32"]
    assert files == sorted(
        kept + (["neighbours-3.faiss"] if backend["backend"] != "flat" else [])
    )


def test_an_item_with_a_known_id_takes_the_older_ones_place(tmp_path):
    index = made(tmp_path / "index", count=50)
    new = -vectors_of(50)[7:8]
    assert index.add(items_of(1, start=7), [new]) == 1
    assert len(index) == 50 and index.rows(["item0007"]) == [50]
    assert index.search(new, 1)[1] == [[50]]
    assert index.search(-new, 1)[1] != [[7]]
    index.remove(["item0007"])
    with pytest.raises(InputError, match="'item0007' is no item"):
        index.remove(["item0007"])


def test_an_interrupted_change_was_none(tmp_path, queries):
    index = made(tmp_path / "index", count=50)

    def stopped():
        yield vectors_of(10, seed=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(items_of(20, start=50), stopped())
    again = load(tmp_path / "index")
    assert len(again) == 50
    again.add(items_of(5, start=50), [vectors_of(5, seed=2)])
    everything = np.concatenate([vectors_of(50), vectors_of(5, seed=2)])
    _, rows = load(tmp_path / "index").search(queries, 8)
    np.testing.assert_array_equal(rows, expected(everything, queries, 8))


def test_a_failure_inside_the_backend_changes_nothing(tmp_path, backend, queries):
    index = made(tmp_path / "index", **backend)
    _, before = index.search(queries, 5)

    class Failing(type(index.backend)):
        def add(self, vectors, items):
            super().add(vectors, items)
            raise KeyboardInterrupt

    index.backend.__class__ = Failing
    with pytest.raises(KeyboardInterrupt):
        index.add(items_of(50, start=500), [vectors_of(50, seed=1)])
    np.testing.assert_array_equal(index.search(queries, 5)[1], before)
    index.add(items_of(50, start=500), [vectors_of(50, seed=1)])
    assert len(load(tmp_path / "index")) == 550


def test_a_change_starts_from_what_others_have_written(tmp_path):
    first = made(tmp_path / "index", count=50)
    second = load(tmp_path / "index")
    first.remove(["item0001"])
    second.remove(["item0002"])
    assert len(load(tmp_path / "index")) == 48


def test_notes_are_kept_and_write_nothing_else(tmp_path):
    index = made(tmp_path / "index", count=300, backend="hnsw")
    before = {p.name: p.stat().st_mtime_ns for p in index.folder.iterdir()}
    index.note(audit={"item_to_item": 0.5})
    after = {p.name: p.stat().st_mtime_ns for p in index.folder.iterdir()}
    assert {n for n in after if after[n] != before[n]} <= {"index.json", "lock"}
    other = load(index.folder)
    other.note(search={"k": 3})
    index.remove(["item0001"])  # of an index that does not know the note yet
    info = load(index.folder).info
    assert info["audit"] == {"item_to_item": 0.5} and info["search"] == {"k": 3}


def test_removing_does_not_write_the_neighbours_again(tmp_path, monkeypatch):
    index = made(tmp_path / "index", count=300, backend="hnsw")
    monkeypatch.setattr(index.backend, "save", lambda path: 1 / 0)
    index.remove(["item0001"])
    assert (index.folder / "neighbours-2.faiss").exists()
    assert not (index.folder / "neighbours-1.faiss").exists()
    assert load(index.folder).search(vectors_of(1), 3)[1].min() >= 0


def test_two_writers_do_not_meet(tmp_path):
    index = made(tmp_path / "index", count=50)
    with (
        writing(index.folder),
        pytest.raises(InputError, match="Another process is writing"),
    ):
        load(tmp_path / "index").remove(["item0001"])
    assert len(load(tmp_path / "index")) == 50


# === Mistakes ===


def test_what_was_cut_short_is_said(tmp_path):
    folder = made(tmp_path / "index", count=300, backend="hnsw").folder
    whole = {path: path.read_bytes() for path in folder.iterdir() if path.suffix}
    for path, contents in whole.items():
        path.write_bytes(contents[: len(contents) // 2])
        with pytest.raises(InputError, match=r"cut short|cannot be read"):
            load(folder)
        path.write_bytes(contents)
    assert len(load(folder)) == 300


def test_another_version_and_no_index_are_said(tmp_path):
    folder = made(tmp_path / "index", count=50).folder
    info = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(info | {"format": 2}))
    with pytest.raises(InputError, match="is of format 2, but this twinlens reads 1"):
        load(folder)
    with pytest.raises(InputError, match="no index in .*nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda i: i.rows(["x", "y"]), "'x' is no item .*nor are 1 others.*item0000"),
        (lambda i: i.search(vectors_of(1), 3, "yaer = 1"), "names 'yaer'"),
        (lambda i: i.add(items_of(2).iloc[[0, 0]], []), "2 items|id of another"),
        (lambda i: create(i.folder, {"image": 1}, IndexSettings(), {}), "is there al"),
    ],
)
def test_mistakes_are_named(tmp_path, do, message):
    with pytest.raises(InputError, match=message):
        do(made(tmp_path / "index", count=50))


def test_too_few_vectors_for_a_compressed_index(tmp_path):
    with pytest.raises(InputError, match="at least 256 vectors, but there are 50"):
        made(tmp_path / "index", count=50, backend="ivf_pq")


# === Near-duplicates ===


def test_near_duplicates_are_linked_through_others(tmp_path):
    angles = np.radians([0, 10, 20, 90, 95, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    index = create(tmp_path / "index", {"image": 2}, IndexSettings(), MODEL)
    index.add(items_of(6), [vectors])
    found = near_duplicates(index, threshold=float(np.cos(np.radians(11))))
    groups = found.groupby("group")["id"].agg(list).tolist()
    assert groups == [["item0000", "item0001", "item0002"], ["item0003", "item0004"]]
    index.remove(["item0001"])  # the link between the first and the third
    found = near_duplicates(index, threshold=float(np.cos(np.radians(11))))
    assert found["id"].tolist() == ["item0003", "item0004"]
    with pytest.raises(InputError, match="the field 'title'"):
        near_duplicates(index, field="title")
