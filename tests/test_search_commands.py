"""`index` and `search` as their user sees them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny import run

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.search import Query, add_items, build_index
from twinlens.search_commands import read_queries


@pytest.mark.slow
def test_the_commands_from_run_to_answers(home, trained, tmp_path):
    folder = tmp_path / "index"
    fields = ["--set", "index.fields=['image', 'title']"]
    made = run("index", "--run", trained.folder, "--index", folder, *fields)
    assert made.code == 0, made.err
    assert "24 items, image + title, flat" in made.out and "colour" in made.out
    said = run(
        "search", folder, "a red [/b] disc", "-k", 3, "--grid", tmp_path / "g.png"
    )
    assert said.code == 0 and "a red [/b] disc" in said.out and "score" in said.out
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.width == 4 * 220
    queries = tmp_path / "queries.csv"
    with open(queries, "w", newline="") as file:
        rows = [("text", "image", "item"), ("a disc", "", "03.png"), ("blue", "", "")]
        csv.writer(file).writerows(rows)
    where = 'colour = "blue"'
    args = ("--json", "-k", 2, "--where", where, "--candidates", 4)
    said = run(
        "search", folder, "--queries", queries, *args, "--set", "text_to_title=2"
    )
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [each["query"] for each in found] == [1, 1, 2, 2]
    assert {each["colour"] for each in found} == {"blue"}
    assert found[0]["text_to_title"] is not None
    gone = run("index", "--index", folder, "--remove", "00.png", "--remove", "01.png")
    assert gone.code == 0 and "22 items" in gone.out
    added = run("index", "--index", folder, "--add", "--split", "train")
    assert added.code == 0, added.err
    assert "Added 2 items; 10 took an older one's place." in added.out
    alike = run("index", "--index", folder, "--near-duplicates", 0.9999)
    assert alike.code == 0 and "groups of near-duplicates" in alike.out


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("q.jsonl", b"{no", "cannot be read as queries"),
        ("q.txt", "caf\u00e9".encode("latin-1"), "cannot be read as queries"),
        ("q.csv", b"", "cannot be read as queries"),
        ("q.CSV", b"words\nred", "has 1 queries and the columns words"),
        ("q.csv", b"text,item\nred,\n,\n", "query 2: The query is empty"),
    ],
)
def test_files_that_are_no_queries_are_named(tmp_path, name, contents, message):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(InputError, match=message):
        read_queries(str(tmp_path / name), "", "", "")


def test_queries_keep_their_words(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"item": 15970}\n{"text": "[/b] red"}\n')
    assert read_queries(str(file), "", "", "") == [
        Query(item="15970"),
        Query("[/b] red"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("index",), "Name the model with --run"),
        (("index", "--index", "new"), "no index|needs a model"),
        (("search", "/no/index", "x"), "There is no index in /no/index"),
        (("search", "{index}", "x", "--queries", "q.csv"), "not both"),
        (("search", "{index}", "--queries", "/no/q.csv"), "no file of queries"),
        (("search", "{index}", "x", "--set", "kk=1"), "search.kk"),
        (("search", "{index}"), "The query is empty"),
        (("index", "--index", "{index}", "--add", "--tune", "colour"), "one of --add"),
        (("evaluate", "{index}", "--label", "a", "--set", "seed=1"), "as it is"),
        (("index", "--run", "{run}", "--index", "{index}"), "is there already"),
        (("index", "--run", "{run}", "--set", "cache.views=2"), "the run's own model"),
        (("index", "--index", "{index}", "--remove", "99"), "'99' is no item"),
    ],
)
def test_mistakes_of_commands_are_sentences(index, trained, arguments, message):
    known = {"index": index.vectors.folder, "run": trained.folder}
    said = run(*(each.format(**known) for each in arguments))
    assert said.code == 1 and message.split("|")[-1] in said.err


@pytest.mark.slow
def test_a_collection_in_milvus_is_built_grows_and_is_searched(model, items, tmp_path):
    pytest.importorskip("milvus_lite", reason='needs pip install "twinlens[milvus]"')
    settings = IndexSettings(backend="milvus")
    index = build_index(model, items.iloc[:15], tmp_path / "index", settings)
    assert index.vectors.info["audit"]["item_to_item"] == 1  # Milvus Lite is exact
    assert add_items(index, items.iloc[10:]) == 5
    queries, where = [Query(item=items["id"].iloc[20])], "number < 18"
    near, exact = (
        index.ranked(queries, where, index.settings(k=4), exactly=exactly).rows[0]
        for exactly in (False, True)
    )
    np.testing.assert_array_equal(near, exact)
    assert (index.vectors.items["number"].iloc[near] < 18).all()
    index.vectors.backend.close()
