"""Milvus: the same answers as exact search, whatever happened to the index."""

import itertools
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.index import create, load, milvus, milvus_client, milvus_fields
from twinlens.index.filters import parse_filter

pytest.importorskip("milvus_lite", reason='needs pip install "twinlens[milvus]"')

DIM = 16
TEXTS = ["Fall", "Winter", 'in "quotes"', "it's", "back\\slash", "two\nlines", "", None]
COLUMN = "Base colour/é"  # no word of Milvus
FILTERS = [
    'season = "Fall"',
    'season != "Fall"',
    'season <> "Winter" and season < "back"',
    'season in ("Fall", "Winter", "nothing")',
    'not season in ("Fall", "Winter")',
    'season = \'in "quotes"\' or season = "it\'s"',
    'season = "back\\\\slash"',
    'season >= ""',
    'season = "\\" or row >= 0 or \\""',
    "year = 2012",
    "year != 2012",
    "year < 2012.5",
    "year <= 2011.5 or year >= 2013.5",
    "not (year > 2012.5)",
    "year in (2011, 2012.5, -7)",
    "year = -7 or year = 2012.5",
    "year != 2012.5",
    "year < 1e300 and year > -1e999",
    "year in (9223372036854775807, 99999999999999999999)",
    "year = true",
    "price > 5",
    "price <= -0.5 or price = 7.25",
    "price < 1e999",
    "price in (7.25, 3)",
    "not (price in (7.25, 3))",
    "sold = true",
    "sold != true",
    "not (sold = true)",
    "sold in (true, false)",
    "sold >= 0",
    f'`{COLUMN}` = "red" and not (year = 2012 and not season = "Fall")',
    f'`{COLUMN}` = "red" or not (price > 5 or not year in (2011, 2013))',
    'id >= "item 5" and split = "test"',
    'id = "nobody"',
]


def items_of(random, count, first=0) -> pd.DataFrame:
    """Items with an attribute of each kind, each missing for some."""
    return pd.DataFrame(
        {
            "id": [f"item {first + i}" for i in range(count)],
            "image_path": "",
            "title": [f"title {i}" for i in range(count)],
            "split": random.choice(["train", "test"], count),
            "season": pd.Series(random.choice(TEXTS, count), dtype=object),
            "year": pd.Series(random.choice([-7, 1, 2011, 2012, 2013, None], count))
            .astype("Float64")
            .astype("Int64"),
            "price": random.choice([-0.5, 3, 7.25, np.nan], count),
            "sold": pd.Series(random.choice([True, False, None], count)).astype(
                "boolean"
            ),
            COLUMN: random.choice(["red", "blue"], count),
        }
    )


def vectors_of(random, count) -> np.ndarray:
    found = random.normal(size=(count, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


class Twins:
    """A flat index and one in Milvus to which the same is done."""

    def __init__(self, folder, random, **settings):
        self.random, self.folder = random, folder
        asked = {"flat": {}, "milvus": {"backend": "milvus"} | settings}
        self.both = [
            create(folder / name, {"image": DIM}, IndexSettings(**each), {})
            for name, each in asked.items()
        ]

    def add(self, items):
        vectors = vectors_of(self.random, len(items))
        return {each.add(items, [vectors]) for each in self.both}

    def reopened(self):
        self.both = [load(each.folder) for each in self.both]

    def assert_same(self, *filters, k=10, without=None):
        queries = vectors_of(self.random, 5)
        for where in filters or ("",):
            (scores, rows), (found, near) = (
                each.search(queries, k, where, without) for each in self.both
            )
            np.testing.assert_array_equal(near, rows, err_msg=where)
            np.testing.assert_allclose(found, scores, atol=1e-5)


@pytest.fixture
def twins(tmp_path, random):
    made = Twins(tmp_path, random)
    made.add(items_of(random, 150))
    yield made
    made.both[1].backend.close()


# === The same answers ===


def test_every_kind_of_filter_gives_the_answers_of_the_flat_index(twins):
    twins.assert_same("", *FILTERS)
    twins.assert_same("", 'season = "Fall"', k=200)
    left = [twins.both[0].selection(where).mask for where in FILTERS]
    assert sum(mask is not None and mask.any() for mask in left) > 25


def test_changes_give_the_answers_of_the_flat_index(twins, random):
    new = items_of(random, 40, first=140)  # ten of them are there
    assert twins.add(new) == {10}
    twins.assert_same("", *FILTERS[:4])
    for each in twins.both:
        each.remove(["item 3", "item 145", "item 170"])
    twins.assert_same("", *FILTERS[:4], k=300)
    twins.reopened()
    twins.assert_same("", *FILTERS[:4], without=np.array([4, -1, 60, -1, 150]))
    assert twins.add(items_of(random, 1, first=3)) == {0}
    twins.assert_same("", k=300)
    assert len(twins.both[1]) == len(twins.both[0]) == 178


def test_another_process_gives_the_same_answers(twins):
    index = twins.both[1]
    queries = vectors_of(twins.random, 2)
    _, here = index.search(queries, 5, "year >= 2012")
    index.backend.close()
    np.save(twins.folder / "queries.npy", queries)
    program = (
        "import numpy as np; from twinlens.index import load\n"
        f"queries = np.load({str(twins.folder / 'queries.npy')!r})\n"
        f"found = load({str(index.folder)!r}).search(queries, 5, 'year >= 2012')\n"
        "print(found[1].tolist())"
    )
    made = [sys.executable, "-c", program]
    done = subprocess.run(made, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(here.tolist())
    assert not done.stderr  # no log lines
    twins.assert_same()  # the connection is opened again


def test_a_server_at_an_address_finds_nearly_all_by_its_graph(tmp_path, random):
    server = milvus_client._lite()
    address = server.start_and_get_uri(str(tmp_path / "server.db"))
    twins = Twins(tmp_path, random, address=address, hnsw_search=400)
    twins.add(items_of(random, 400))
    twins.reopened()
    queries = vectors_of(random, 20)
    for where in ("", "year >= 2012"):
        exact, near = (each.search(queries, 10, where)[1] for each in twins.both)
        shared = (exact[:, :, None] == near[:, None, :]).any(axis=2)
        assert shared.mean() > 0.95
    assert not (tmp_path / "milvus" / milvus_client.LOCAL).exists()
    twins.both[1].backend.close()
    server.release_server(str(tmp_path / "server.db"))


def test_many_queries_and_vectors_go_in_pieces(tmp_path, random, monkeypatch):
    monkeypatch.setattr(milvus, "QUERIES", 2)
    monkeypatch.setattr(milvus, "SENT", 7 * DIM * 4)
    monkeypatch.setattr(milvus, "MOST", 60)
    twins = Twins(tmp_path, random)
    twins.add(items_of(random, 50))
    twins.assert_same("", k=60)
    for each in twins.both:
        each.remove([f"item {n}" for n in range(0, 50, 2)])
    twins.assert_same("", k=60)
    with pytest.raises(InputError, match="61 answers are wanted, but Milvus gives"):
        twins.both[1].search(np.zeros((1, DIM), np.float32), 61)
    twins.both[1].backend.close()


# === Interrupted changes ===


def test_an_interrupted_addition_is_not_seen_and_is_written_over(twins, monkeypatch):
    new = items_of(twins.random, 30, first=140)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("twinlens.index.folder.write_info", stopped)
        for each in twins.both:
            with pytest.raises(KeyboardInterrupt):
                each.add(new, [vectors_of(twins.random, 30)])
    twins.reopened()
    assert len(twins.both[1]) == 150
    twins.assert_same("", *FILTERS[:3], k=200)
    twins.add(items_of(twins.random, 8, first=300))
    twins.assert_same("", *FILTERS[:3], k=200)


def test_rows_that_were_not_deleted_any_more_are_not_found(twins, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(milvus.MilvusBackend, "remove", lambda *_: None)
        for each in twins.both:
            each.remove([f"item {n}" for n in range(40)])
    twins.reopened()
    twins.assert_same("", *FILTERS[:3], k=200)


def test_items_that_do_not_fit_change_nothing(twins):
    def refused(message, **columns):
        new = items_of(twins.random, 4, first=500).assign(**columns)
        with pytest.raises(InputError, match=message):
            twins.both[1].add(new, [vectors_of(twins.random, 4)])

    refused("attribute 'fabric', but the index in Milvus was made without", fabric="x")
    refused("'year' is 2.5 for an item, but in Milvus it holds whole", year=2.5)
    refused("'year' is old for an item, but in Milvus", year="old")
    refused("'season' is 5 for an item, but in Milvus it holds text", season=5)
    refused("'sold' is 2 for an item, but in Milvus it holds true", sold=2)
    refused("does not take vectors .*exceeds max_length", season="x" * 70_000)
    twins.assert_same("", *FILTERS[:3], k=200)
    fewer = items_of(twins.random, 4, first=500).drop(columns=["season", "year"])
    twins.add(fewer.assign(price=[1, 2, 3, 4], sold=None))
    twins.assert_same("", *FILTERS[:3], "price in (1, 2)", k=200)


def test_a_failed_first_addition_can_be_given_again(tmp_path, random):
    twins = Twins(tmp_path, random)
    bad = items_of(random, 5).assign(season="x" * 70_000)
    with pytest.raises(InputError, match="exceeds max_length"):
        twins.both[1].add(bad, [vectors_of(random, 5)])
    twins.add(items_of(random, 30).drop(columns="season"))
    twins.assert_same("", "year >= 2012", k=40)
    twins.both[1].backend.close()


# === Mistakes ===


def test_a_collection_of_another_size_is_noticed(twins):
    index = twins.both[1]
    index.backend.remove(np.arange(10))
    with pytest.raises(InputError, match="has 140 rows of .*but there are 150: it was"):
        load(index.folder)
    index.backend.close()
    shutil.rmtree(index.folder / milvus_client.LOCAL)
    with pytest.raises(InputError, match="does not have the collection of .*anew"):
        load(index.folder)


def test_a_local_file_that_another_process_has_open_is_refused(twins):
    index = twins.both[1]
    program = f"from twinlens.index import load; load({str(index.folder)!r})"
    made = [sys.executable, "-c", program]
    done = subprocess.run(made, capture_output=True, text=True, check=False)
    assert "InputError" in done.stderr
    assert "milvus.db cannot be opened: another process has it open" in done.stderr


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:1", "Milvus at http://127.0.0.1:1 does not drop|take"),
        ("localhost:19530", "index.address is 'localhost:19530'. Write it as http"),
        ("http://root:Milvus@host:1", "password in it.*variable MILVUS_TOKEN"),
    ],
)
def test_an_address_that_does_not_answer_says_so(tmp_path, random, address, message):
    index = Twins(tmp_path, random, address=address).both[1]
    with pytest.raises(InputError, match=message) as raised:
        index.add(items_of(random, 3), [vectors_of(random, 3)])
    assert "root:" not in str(raised.value)


def test_without_pymilvus_the_extra_is_named(tmp_path, random, monkeypatch):
    index = Twins(tmp_path, random).both[1]
    for name in ("pymilvus", "milvus_lite.server_manager"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(InputError, match=r'pip install "twinlens\[milvus\]"'):
                index.add(items_of(random, 3), [vectors_of(random, 3)])


# === Filters as text ===


def test_filters_say_what_happens_to_missing_values():
    items = pd.DataFrame({"year": [1], "in": ["x"]})
    kinds = {"a_year": "INT64", "a_in": "VARCHAR"}
    found = parse_filter('not (year > 2.5 and `in` = "a\\"b")', items)
    assert milvus_fields.expression(found, kinds) == (
        "((a_year is null or not (a_year > 2)) or "
        '(a_in is null or not (a_in == "a\\"b")))'
    )


def test_fields_have_names_that_milvus_takes_and_never_share_one():
    columns = ["year", "in", "row", "a b", "a_b", "a-b", "é", "ü", "x" * 300]
    names = [milvus_fields.field_name(column) for column in columns]
    assert len(set(names)) == len(columns)
    assert all(name.isascii() and name.isidentifier() for name in names)
    assert max(map(len, names)) < 255
    assert not {"row", "vector", "in"} & set(names)


def test_whole_numbers_are_compared_as_pandas_compares_them(twins):
    values = (-7, 2012, 2012.5, -7.5, 1e20, -1e20)
    signs = ("=", "!=", "<", "<=", ">", ">=")
    wheres = [f"year {s} {v:f}" for s, v in itertools.product(signs, values)]
    twins.assert_same(*wheres, k=3)
