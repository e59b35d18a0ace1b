"""Ratings by people: what is kept, means, agreement, two models side by side."""

import sqlite3

import numpy as np
import pytest
from tiny import run

from twinlens.errors import InputError
from twinlens.ratings import (
    RatingFile,
    Shown,
    agreement,
    compare_models,
    read_ratings,
    summarise,
)


def shown(text="a dog", model="m1", **changes):
    values = {
        "model": model,
        "model_name": f"run-{model}",
        "text": text,
        "item": "",
        "picture": "",
        "where": "",
        "settings": {"k": 24},
        "results": (("a.jpg", 0.5), ("b.jpg", 0.25)),
    }
    return Shown(**values | changes)


@pytest.fixture
def file(tmp_path):
    return RatingFile(tmp_path / "ratings.sqlite")


def test_a_rating_is_kept_with_all_that_was_shown(file):
    file.add("r1", shown(where='colour = "red"', picture="ab12"), 4, 2)
    row = read_ratings(file.path).iloc[0]
    assert (row["rater"], row["match"], row["satisfaction"]) == ("r1", 4, 2)
    assert (row["model"], row["query_text"], row["filter"]) == (
        "m1",
        "a dog",
        'colour = "red"',
    )
    assert row["results"] == (
        '[{"id": "a.jpg", "score": 0.5}, {"id": "b.jpg", "score": 0.25}]'
    )
    assert row["time"].endswith("+00:00") and row["settings"] == '{"k": 24}'


def test_the_last_word_of_a_rater_counts(file):
    file.add("r1", shown(), 1, 1)
    file.add("r2", shown(), 2, 2)
    file.add("r1", shown(), 5, 4)
    found = read_ratings(file.path)
    assert found[["rater", "match"]].values.tolist() == [["r2", 2], ["r1", 5]]
    with sqlite3.connect(file.path) as connection:  # nothing is thrown away
        assert connection.execute("SELECT count(*) FROM ratings").fetchone() == (3,)


def test_means_count_ratings_and_intervals_hold_them(file):
    for text, values in {"a": (1, 2), "b": (4, 5), "c": (4, 2)}.items():
        for rater, value in enumerate(values):
            file.add(f"r{rater}", shown(text), value, 3)
    row = summarise(read_ratings(file.path)).iloc[0]
    assert (row["ratings"], row["queries"], row["raters"]) == (6, 3, 2)
    assert row["match"] == pytest.approx(18 / 6) and row["satisfaction"] == 3
    assert row["match_low"] == 1.5 and row["match_high"] == 4.5  # one query alone
    assert (row["satisfaction_low"], row["satisfaction_high"]) == (3, 3)
    assert np.isnan(row["satisfaction_agreement"])  # all alike: nothing to agree on


def test_agreement_is_krippendorffs_alpha(file):
    # Two raters, ordinal values 1 and 5 only. Coincidences: (1,1) 2, (5,5) 2,
    # (1,5) 2; so D_o = 2/6, D_e = 2·3·3/(6·5) = 18/30; alpha = 1 - 10/18 = 4/9.
    for text, values in {"a": (1, 1), "b": (5, 5), "c": (1, 5)}.items():
        for rater, value in enumerate(values):
            file.add(f"r{rater}", shown(text), value, 3)
    file.add("r0", shown("rated once"), 3, 3)
    assert agreement(read_ratings(file.path), "match") == pytest.approx(4 / 9)
    file.add("r1", shown("c"), 1, 3)
    assert agreement(read_ratings(file.path), "match") == pytest.approx(1)


def test_two_models_are_compared_on_queries_of_both(file):
    for number in range(8):
        file.add("r1", shown(f"q{number}"), 2, 3)
        file.add("r1", shown(f"q{number}", "m2"), 4, 3)
    file.add("r2", shown("q0", "m2"), 2, 3)  # a query counts by its mean
    file.add("r1", shown("only here"), 5, 5)
    ratings = read_ratings(file.path)
    match, satisfaction = compare_models(ratings, "m1", "m2").to_dict("records")
    assert match["queries"] == 8 and match["a"] == 2
    assert match["b"] == pytest.approx((7 * 4 + 3) / 8)
    assert match["difference"] == pytest.approx(-(7 * 2 + 1) / 8)
    assert match["p_value"] == pytest.approx(2 / 2**8, abs=0.005)
    assert satisfaction["difference"] == 0 and satisfaction["p_value"] == 1
    assert not len(compare_models(ratings[ratings["query"] > 7], "m1", "m2"))


def test_the_command_prints_models_and_their_difference(file):
    for number in range(3):
        for model in ("m1", "m2"):
            file.add("r1", shown(f"q{number}", model), number + 1, 3)
    said = run("evaluate", "--ratings", file.path)
    assert said.code == 0, said.err
    assert "run-m1" in said.out and "run-m2" in said.out and "2.00 [" in said.out
    assert "run-m2 (m2): 3 ratings of 3 queries by 1 raters" in said.out
    assert "3 queries rated for both" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("contents", "message"),
    [(None, "no file of ratings"), (b"words" * 200, "as ratings"), (b"", "as ratings")],
)
def test_what_is_no_file_of_ratings_is_named(tmp_path, contents, message):
    path = tmp_path / "r.sqlite"
    if contents is not None:
        path.write_bytes(contents)
    said = run("evaluate", "--ratings", path)
    assert said.code == 1 and message in said.err


def test_mistakes_are_sentences(file, tmp_path):
    with pytest.raises(InputError, match="holds no ratings yet"):
        read_ratings(file.path)
    with pytest.raises(InputError, match="go from 1 to 5"):
        file.add("r1", shown(), 6, 1)
    with pytest.raises(InputError, match="Name another file"):
        RatingFile(tmp_path / "nowhere" / "r.sqlite")
    said = run("evaluate", "some-run", "--ratings", file.path)
    assert said.code == 1 and "nothing goes with it" in said.err
