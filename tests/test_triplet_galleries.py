"""Galleries of triplets, the quick look, and what holds for triplets of any source."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_triplets import draw, load_made, many, picture_table, published, triplets
from made_triplets import made_source as source

from twinlens.errors import InputError

IDS = st.sampled_from("abcdef")  # of these, a to d are drawn
PARTS = (IDS, IDS, st.sampled_from(["red", ""]), st.sampled_from(["train", "test"]))
ROWS = st.lists(st.tuples(*PARTS, st.sampled_from("xy")), max_size=12)
LISTED = st.lists(st.tuples(IDS, st.sampled_from(["train", "test"]), st.just("x")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    draw(made, "abcd")
    return made


# === Galleries ===


def test_the_original_split_is_the_published_one_in_its_order_each_picture_once(folder):
    gallery = published(*((name, "val", "x") for name in "dbacb"), ("c", "val", "y"))
    rows = triplets(("a", "b", "red", "val", "x"))
    data = load_made(source(rows, picture_table(folder, "abcd"), gallery))
    assert data.gallery("original split", "val", "x").tolist() == ["d", "b", "a", "c"]
    assert data.gallery("original split", "val", "y").tolist() == ["c"]


def test_the_val_split_holds_the_pictures_of_the_queries_that_are_left(folder):
    rows = triplets(
        ("a", "b", "red", "val", "x"),
        ("b", "c", "red", "val", "x"),
        ("d", "b", "", "val", "x"),  # left out, so d is in no query
        ("a", "d", "red", "val", "y"),
    )
    named = [(name, "val", category) for name in "abcd" for category in "xy"]
    table = picture_table(folder, "abcd")
    data = load_made(source(rows, table, published(*named)))
    assert data.gallery("VAL split", "val", "x").tolist() == ["a", "b", "c"]
    assert data.gallery("VAL split", "val", "y").tolist() == ["a", "d"]


def test_without_published_galleries_there_is_one_of_all_pictures(folder):
    rows = triplets(("a", "b", "red", "val", "x"), ("c", "b", "red", "test", "x"))
    data = load_made(source(rows, picture_table(folder, "abcd")))
    assert list(data.galleries) == ["all"]
    assert data.gallery("all", "val", "x").tolist() == ["a", "b"]
    assert data.pictures["image_id"].tolist() == ["a", "b", "c"]  # d is in none


def test_a_source_may_publish_its_own_gallery_of_all(folder):
    rows = triplets(("a", "b", "red", "val", "x"))
    names = ["image_id", "split", "category"]
    own = {"all": pd.DataFrame([(n, "val", "x") for n in "bad"], columns=names)}
    data = load_made(source(rows, picture_table(folder, "abcd"), own))
    assert list(data.galleries) == ["all"]
    assert data.gallery("all", "val", "x").tolist() == ["b", "a", "d"]


def test_a_gallery_that_is_not_there_is_answered_with_those_that_are(folder):
    rows = triplets(("a", "b", "red", "val", "x"), ("c", "b", "red", "test", "y"))
    gallery = published(("b", "val", "x"), ("b", "test", "y"))
    data = load_made(source(rows, picture_table(folder, "abc"), gallery))
    message = "There is no gallery 'val'; there are 'original split', 'VAL split'."
    with pytest.raises(InputError, match=message):
        data.gallery("val", "val", "x")
    message = "The gallery 'VAL split' has no pictures of test x; it has those of val x"
    with pytest.raises(InputError, match=message + ", test y"):
        data.gallery("VAL split", "test", "x")


# === A quick look ===


def test_a_quick_look_is_proportional_repeatable_and_grows(tmp_path):
    rows, names = many(44, "val")
    rows[40:] = [(*row[:3], "test", "x") for row in rows[40:]]
    made = source(triplets(*rows), draw(tmp_path, names))
    kept = {n: load_made(made, max_triplets=n).triplets for n in (1, 2, 11, 22, 99)}
    assert Counter(kept[2]["split"]) == {"val": 1, "test": 1}  # none stays empty
    assert Counter(kept[11]["split"]) == {"val": 10, "test": 1}  # of 40 : 4
    assert Counter(kept[22]["split"]) == {"val": 20, "test": 2}
    assert [len(each) for each in kept.values()] == [1, 2, 11, 22, 44]
    sets = [set(map(tuple, each.to_numpy())) for each in kept.values()]
    assert all(small < large for small, large in zip(sets, sets[1:], strict=False))
    turned = source(triplets(*rows[::-1]), made.pictures)
    again = load_made(turned, max_triplets=11).triplets
    assert again[::-1].reset_index(drop=True).equals(kept[11])


def test_a_quick_look_counts_triplets_that_repeat_themselves(folder):
    rows = triplets(*[("a", "b", "red", "val", "x")] * 5)
    made = source(rows, picture_table(folder, "ab"))
    assert len(load_made(made, max_triplets=3).triplets) == 3


def test_a_quick_look_leaves_published_galleries_whole(folder):
    rows = triplets(("a", "b", "red", "val", "x"), ("c", "d", "red", "val", "x"))
    gallery = published(*((name, "val", "x") for name in "abcd"))
    made = source(rows, picture_table(folder, "abcd"), gallery)
    data = load_made(made, max_triplets=1)
    assert len(data.gallery("original split", "val", "x")) == 4
    assert len(data.gallery("VAL split", "val", "x")) == 2
    assert len(data.pictures) == 4


def test_a_quick_look_at_nothing_is_refused(folder):
    made = source(triplets(("a", "b", "red", "val", "x")), picture_table(folder, "ab"))
    with pytest.raises(InputError, match="max_triplets is 0; it must be at least 1"):
        load_made(made, max_triplets=0)


# === Whatever the source ===


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, listed=LISTED)
def test_what_is_left_is_what_a_slow_check_leaves_and_the_rest_is_counted(
    folder, rows, listed
):
    def is_usable(row):
        reference, target, wish, split, category = row
        there = {reference, target} <= set("abcd")
        inside = not listed or (target, split, category) in listed
        return there and wish and inside and reference != target

    left = [row for row in rows if is_usable(row)]
    galleries = published(*listed) if listed else {}
    made = source(triplets(*rows), picture_table(folder, "abcdef"), galleries)
    if not left:
        with pytest.raises(InputError):
            load_made(made)
        return
    data = load_made(made, split_fractions=(1, 0, 0))
    assert list(data.triplets.itertuples(index=False, name=None)) == left
    about_triplets = [p for p in data.problems if p.kind != "missing picture"]
    assert len(about_triplets) == len(rows) - len(left)
    pictures = set(data.pictures["image_id"])
    assert len(pictures) == len(data.pictures) and pictures <= set("abcd")
    for reference, target, _, split, category in left:
        for kind in data.galleries:
            gallery = data.gallery(kind, split, category)
            assert target in gallery and set(gallery) <= pictures
        assert reference in pictures
