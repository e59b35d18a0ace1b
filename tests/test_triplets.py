"""Checks and splits that all sources of triplets share."""

import pandas as pd
import pytest
from made_triplets import draw, load_made, many, picture_table, published, triplets
from made_triplets import made_source as source

from twinlens.data.readers.source import NUMBER, PLACE
from twinlens.data.splits import hash_split
from twinlens.data.table import problem_counts
from twinlens.data.triplets import COLUMNS, load_triplets
from twinlens.errors import InputError


def found(data):
    return [(problem.kind, problem.where, problem.detail) for problem in data.problems]


# === What is read ===


def test_triplets_are_references_wishes_and_targets_in_the_order_read(tmp_path):
    rows = triplets(("a", "b", "  in   red ", "test", "dress"), ("b", "c", "no", *"xy"))
    rows = rows.assign(split=["test", "val"], edit="colour", number=[3, 4])
    made = source(rows, draw(tmp_path, "abc"), note="test is what papers report")
    data = load_made(made)
    assert data.triplets.to_dict("records")[0] == {
        "reference_id": "a",
        "target_id": "b",
        "wish": "in red",
        "split": "test",
        "category": "dress",
        "edit": "colour",
        "number": "3",
    }
    assert tuple(data.triplets)[:5] == COLUMNS and len(data.triplets) == 2
    assert data.pictures.equals(picture_table(tmp_path, "abc"))
    assert data.source == "made reader, here; test is what papers report"
    assert (data.rule, data.keeps_reference, data.problems) == ("as made", True, [])


def test_a_source_without_categories_has_one_that_is_called_all(tmp_path):
    rows = triplets(("a", "b", "red", "val", ""), ("b", "a", "blue", "test", ""))
    galleries = {"original split": pd.DataFrame({"image_id": ["a", "b"]})}
    galleries["original split"]["split"] = ["test", "test"]
    for each in (rows, rows.drop(columns="category")):
        test = each[each["split"] == "test"]
        data = load_made(source(test, draw(tmp_path, "ab"), galleries))
        assert data.triplets["category"].tolist() == ["all"]
        assert data.gallery("original split", "test", "all").tolist() == ["a", "b"]


def test_a_reader_need_not_say_where_its_rows_are(tmp_path):
    rows = triplets(("a", "b", "red", "val", "x"), ("a", "b", "", "val", "x"))
    made = source(rows.drop(columns=[PLACE, NUMBER]), draw(tmp_path, "ab"))
    assert [problem.where for problem in load_made(made).problems] == ["row 2"]


# === What is left out ===


def test_triplets_that_lack_a_part_are_counted_and_left_out(tmp_path):
    rows = triplets(
        ("", "b", "red", "val", "x"),
        ("a", "", "red", "val", "x"),
        ("a", "b", " \n", "val", "x"),
        ("a", "b", "red", "val", "x"),
    )
    data = load_made(source(rows, draw(tmp_path, "ab")))
    assert len(data.triplets) == 1
    assert found(data) == [
        (
            "empty reference",
            "cap.json, entry 1",
            "reference '', target 'b', wish 'red'",
        ),
        ("empty target", "cap.json, entry 2", "reference 'a', target '', wish 'red'"),
        ("empty wish", "cap.json, entry 3", "reference 'a', target 'b', wish ''"),
    ]


def test_a_target_that_is_its_reference_is_counted_and_left_out(tmp_path):
    rows = triplets(("a", "a", "same", "val", "x"), ("a", "b", "red", "val", "x"))
    data = load_made(source(rows, draw(tmp_path, "ab")))
    assert data.triplets["wish"].tolist() == ["red"]
    assert found(data) == [
        ("target is the reference", "cap.json, entry 1", "picture a: same")
    ]


@pytest.mark.parametrize(
    "elsewhere", [("b", "train", "x"), ("b", "test", "y"), ("c", "test", "x")]
)
def test_a_target_has_to_be_in_the_gallery_of_its_own_split_and_category(
    tmp_path, elsewhere
):
    rows = triplets(("a", "b", "red", "test", "x"), ("b", "a", "blue", "test", "x"))
    galleries = published(("a", "test", "x"), elsewhere)
    data = load_made(source(rows, draw(tmp_path, "abc"), galleries))
    assert data.triplets["wish"].tolist() == ["blue"]
    detail = "target b is not in the gallery 'original split' of test, category x"
    outside = ("target outside its gallery", "cap.json, entry 1", detail)
    assert found(data) == [outside]


def test_missing_pictures_are_named_and_leave_triplets_and_galleries(tmp_path):
    draw(tmp_path, "ab")
    pictures = picture_table(tmp_path, "abcd")
    pictures = pictures.assign(**{PLACE: "split.json, entry", NUMBER: [5, 6, 7, 8]})
    rows = triplets(
        ("a", "b", "red", "val", "x"),
        ("c", "b", "green", "val", "x"),
        ("a", "d", "blue", "val", "x"),
    )
    gallery = published(*((name, "val", "x") for name in "dcba"))
    data = load_made(source(rows, pictures, gallery))
    assert data.triplets["wish"].tolist() == ["red"]
    assert data.gallery("original split", "val", "x").tolist() == ["b", "a"]
    assert data.pictures["image_id"].tolist() == ["a", "b"]
    path = tmp_path / "c.png"
    assert found(data) == [
        ("missing picture", "split.json, entry 7", f"picture c: {path}"),
        ("missing picture", "split.json, entry 8", f"picture d: {tmp_path / 'd.png'}"),
        ("triplet of a missing picture", "cap.json, entry 2", "reference c"),
        ("triplet of a missing picture", "cap.json, entry 3", "target d"),
    ]


def test_a_picture_for_which_no_file_is_named_is_missing_once(tmp_path):
    rows = triplets(*((name, "b", "red", "val", "x") for name in "aee"))
    data = load_made(source(rows, draw(tmp_path, "ab")))
    assert len(data.triplets) == 1
    counts = {"triplet of a missing picture": 2, "missing picture": 1}
    assert problem_counts(data.problems) == counts
    detail = "picture e: no file is named for it"
    assert found(data)[0] == ("missing picture", "cap.json, entry 2", detail)


def test_one_id_with_two_files_is_refused(tmp_path):
    pictures = pd.concat([draw(tmp_path, "ab"), draw(tmp_path, "c")])
    pictures["image_id"] = ["a", "b", "a"]
    rows = triplets(("a", "b", "red", "val", "x"))
    with pytest.raises(InputError, match=r"Picture id a has two files: .*a\.png \(row"):
        load_made(source(rows, pictures))


def test_where_nothing_is_left_counts_and_first_ones_are_named(tmp_path):
    rows = triplets(
        ("a", "a", "same", "val", "x"),
        ("a", "b", "", "val", "x"),
        ("b", "b", "same", "val", "x"),
    )
    with pytest.raises(InputError) as error:
        load_made(source(rows, draw(tmp_path, "ab")))
    assert str(error.value) == (
        "No triplet is left of made here: 2 × target is the reference, the first in "
        "cap.json, entry 1 (picture a: same); 1 × empty wish, the first in cap.json, "
        "entry 2 (reference 'a', target 'b', wish ''). Correct the source."
    )


def test_where_all_pictures_are_missing_the_setting_for_them_is_named(tmp_path):
    rows = triplets(("a", "b", "red", "val", "x"))
    message = r"2 × missing picture.*Name the folder .* with `images` \(data\.images\)"
    with pytest.raises(InputError, match=message):
        load_made(source(rows, picture_table(tmp_path, "ab")))


def test_a_source_without_any_triplet_is_refused(tmp_path):
    message = "made here has no triplets at all. Are they the right files?"
    with pytest.raises(InputError, match=message):
        load_made(source(triplets(), draw(tmp_path, "ab"), published()))


def test_an_unknown_reader_is_answered_with_the_nearest():
    message = "There is no reader 'fashion-iq'; there are fashioniq, cirr.*Did you mea"
    with pytest.raises(InputError, match=message + "n 'fashioniq'"):
        load_triplets("fashion-iq", "here")


# === Splits ===


def test_train_is_divided_by_the_hash_of_the_target(tmp_path):
    rows, names = many(60)
    rows.append(("t1", "t0", "back", "test", "x"))
    made = source(triplets(*rows), draw(tmp_path, names))
    data = load_made(made, split_fractions=(0.6, 0.2, 0.2))
    expected = hash_split(names[1:], (0.75, 0.25, 0))  # 0.6 : 0.2
    assert data.triplets["split"].tolist() == [*expected, "test"]
    assert set(expected) == {"train", "val"}


def test_train_and_val_search_the_whole_published_gallery_of_train(tmp_path):
    rows, names = many(20)
    gallery = published(*((name, "train", "x") for name in names))
    data = load_made(source(triplets(*rows), draw(tmp_path, names), gallery))
    for split in ("train", "val"):
        assert data.gallery("original split", split, "x").tolist() == names
        own = data.triplets[data.triplets["split"] == split]
        queries = data.gallery("VAL split", split, "x")
        assert queries.tolist() == ["a", *own["target_id"]]


def test_a_source_with_a_val_split_keeps_its_splits(tmp_path):
    rows, names = many(20)
    rows.append(("t1", "t0", "back", "val", "x"))
    data = load_made(source(triplets(*rows), draw(tmp_path, names)))
    assert data.triplets["split"].tolist() == ["train"] * 20 + ["val"]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.5, 0.2, 0.2), "expected three numbers from 0 to 1"),
        ((0, 0, 1), r"are \[0, 0, 1\]: train and val have no share to divide"),
    ],
)
def test_fractions_that_cannot_divide_train_are_refused(tmp_path, fractions, message):
    rows, names = many(2)
    made = source(triplets(*rows), draw(tmp_path, names))
    with pytest.raises(InputError, match=message):
        load_made(made, split_fractions=fractions)
