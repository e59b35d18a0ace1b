"""Checks and splits that all readers share."""

import errno
import hashlib
import os
import time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.data.splits import hash_split, keep_images
from twinlens.data.table import COLUMNS, Problem, load, problem_counts, read
from twinlens.errors import InputError

IDS = st.lists(st.text(st.characters(codec="utf-8")), unique=True, max_size=30)


def write_table(folder, rows, pictures=("a.jpg", "b.jpg", "c.jpg")):
    """A CSV of `rows`, lines of text, beside empty files named as pictures."""
    for name in pictures:
        (folder / name).touch()
    file = folder / "captions.csv"
    file.write_text("\n".join(rows) + "\n", "utf-8")
    return file


@given(ids=IDS, more=IDS, seed=st.randoms())
def test_the_split_of_a_picture_depends_on_nothing_but_its_id(ids, more, seed):
    alone = dict(zip(ids, hash_split(ids), strict=True))
    crowd = list(dict.fromkeys(ids + more))
    seed.shuffle(crowd)
    together = dict(zip(crowd, hash_split(crowd), strict=True))
    assert all(together[image_id] == split for image_id, split in alone.items())


def test_splits_are_those_of_the_published_hash():
    def by_hand(image_id):
        digest = hashlib.blake2b(image_id.encode(), digest_size=8, person=b"split")
        place = int.from_bytes(digest.digest(), "big") / 2**64
        return "train" if place < 0.5 else "val" if place < 0.75 else "test"

    ids = [f"{number}.jpg" for number in range(200)]
    assert list(hash_split(ids, (0.5, 0.25, 0.25))) == [by_hand(name) for name in ids]


def test_hash_splits_have_the_shares_asked_for():
    splits = pd.Series(hash_split([str(number) for number in range(10_000)]))
    shares = splits.value_counts(normalize=True)
    # Four standard deviations of a binomial share: 4 * sqrt(0.8 * 0.2 / 10000).
    assert shares["train"] == pytest.approx(0.8, abs=0.016)
    assert shares["val"] == pytest.approx(0.1, abs=0.012)


@pytest.mark.parametrize("only", [0, 1, 2])
def test_a_split_of_share_zero_stays_empty(only):
    fractions = [float(place == only) for place in range(3)]
    splits = set(hash_split(map(str, range(500)), fractions))
    assert splits == {("train", "val", "test")[only]}


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_are_no_shares_are_refused(fractions):
    with pytest.raises(InputError, match="three numbers from 0 to 1"):
        hash_split(["a"], fractions)


def test_a_smaller_look_is_part_of_a_larger_one_and_proportional():
    ids = [str(number) for number in range(100)]
    splits = ["train"] * 60 + ["val"] * 30 + ["test"] * 10
    rows = pd.DataFrame({"image_id": ids, "split": splits})
    small, large = keep_images(rows, 10), keep_images(rows, 50)
    assert set(small["image_id"]) < set(large["image_id"])
    assert dict(small["split"].value_counts()) == {"train": 6, "val": 3, "test": 1}
    assert dict(large["split"].value_counts()) == {"train": 30, "val": 15, "test": 5}
    shuffled = keep_images(rows.sample(frac=1, random_state=0), 10)
    assert set(shuffled["image_id"]) == set(small["image_id"])


def test_a_quick_look_keeps_all_captions_of_its_pictures(tmp_path):
    rows = [f"{name}.jpg,caption {n},train" for name in "abc" for n in range(3)]
    file = write_table(tmp_path, ["image,caption,split", *rows])
    table = read("table", file, max_images=2)
    assert list(table.groupby("image_id").size()) == [3, 3]
    with pytest.raises(InputError, match="max_images is 0"):
        read("table", file, max_images=0)


def test_all_captions_of_a_picture_share_its_drawn_split(tmp_path):
    names = [f"{number}.jpg" for number in range(40)]
    rows = [f"{name},text {n}" for n in range(3) for name in names]
    file = write_table(tmp_path, ["image,caption", *rows], names)
    table = read("table", file, split_fractions=(0.4, 0.3, 0.3))
    assert (table.groupby("image_id")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val", "test"}


def test_the_table_has_its_columns_in_order_and_only_text(tmp_path):
    rows = ["price,caption,image", "12,NA,a.jpg", ",null,b.jpg"]
    table = read("table", write_table(tmp_path, rows))
    assert list(table) == [*COLUMNS, "price"]
    assert list(table.index) == [0, 1]
    assert table["caption"].tolist() == ["NA", "null"]  # words, not missing values
    assert table["price"].tolist() == ["12", ""]


def test_captions_keep_case_and_punctuation_but_not_line_breaks(tmp_path):
    rows = ["image,caption", 'a.jpg,"  A dog,\nRUNNING\t !  "']
    assert (
        read("table", write_table(tmp_path, rows))["caption"][0] == "A dog, RUNNING !"
    )


def test_problems_are_counted_with_file_and_row(tmp_path):
    rows = [
        "image,caption,split",
        "a.jpg,a dog,train",
        "a.jpg,a dog,train",
        "b.jpg, ,val",
        ",a stray text,val",
        "gone.jpg,a cat,test",
        "c.jpg,a bird,",
        "a.jpg,one,cell,too many",
    ]
    data = load("table", write_table(tmp_path, rows))
    found = {problem.kind: problem for problem in data.problems}
    assert {kind: problem.where for kind, problem in found.items()} == {
        "duplicate caption row": "captions.csv, row 3",
        "empty caption": "captions.csv, row 4",
        "picture without captions": "captions.csv, row 4",
        "caption of an unknown picture": "captions.csv, row 5",
        "picture file is missing": "captions.csv, row 6",
        "picture in no split": "captions.csv, row 7",
        "malformed row": "captions.csv, row 8",
    }
    assert found["picture file is missing"].detail == str(tmp_path / "gone.jpg")
    assert data.table["image_id"].tolist() == ["a.jpg", "a.jpg"]  # a repeat stays
    assert data.source == f"table reader, {tmp_path / 'captions.csv'}"


@pytest.mark.parametrize("folder", ["\0", "a" * 300, "loop", "b.jpg", "gone"])
def test_what_cannot_be_a_folder_of_pictures_holds_none(tmp_path, folder):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    rows = ["image,caption", "a.jpg,a dog", f"{folder}/a.jpg,a cat"]
    data = load("table", write_table(tmp_path, rows))
    assert problem_counts(data.problems) == {"picture file is missing": 1}
    assert data.table["caption"].tolist() == ["a dog"]


def test_a_folder_of_pictures_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    file = write_table(tmp_path, ["image,caption", "a.jpg,a dog", "b.jpg,a cat"])

    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        load("table", file)


def test_problem_counts_start_with_the_most_frequent():
    kinds = ["rare", "often", "often"]
    counts = problem_counts(Problem(kind, "file, row 1", "") for kind in kinds)
    assert list(counts.items()) == [("often", 2), ("rare", 1)]


def test_the_usual_names_of_splits_become_ours(tmp_path):
    rows = ["image,caption,split", "a.jpg,x,Training", "b.jpg,y,valid", "c.jpg,z,TEST"]
    table = read("table", write_table(tmp_path, rows))
    assert table["split"].tolist() == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["image,caption,split", "a.jpg,x,train", "b.jpg,y,val", "a.jpg,z,test"],
            r"Picture a.jpg has two splits: train \(captions.csv, row 2\) and test "
            r"\(captions.csv, row 4\)",
        ),
        (
            ["image,caption,image_id", "a.jpg,x,1", "b.jpg,y,1"],
            r"Picture id 1 has two files: .*a.jpg \(captions.csv, row 2\) and .*b.jpg",
        ),
        (
            ["image,caption,image_id", "a.jpg,x,1", "a.jpg,y,2"],
            r"a.jpg has two ids: 1 \(captions.csv, row 2\) and 2 \(captions.csv, row 3",
        ),
        (
            ["image,caption,split", "a.jpg,x,trian"],
            r"captions.csv, row 2: the split is 'trian'; expected train, val",
        ),
        (
            ["image,caption", "x.jpg,a", "y.jpg,b"],
            r"None of the 2 picture files exists; the first is .*x.jpg "
            r"\(captions.csv, row 2\).*`images`",
        ),
        (
            ["image,caption", "a.jpg,"],
            r"No captioned picture is left of table .*captions.csv: 1 × empty caption",
        ),
        (["image,caption"], r"has no captions at all"),
    ],
)
def test_contradictions_are_refused_with_their_rows(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read("table", write_table(tmp_path, rows))


def test_an_unknown_reader_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="no reader 'fliker8k'.*mean 'flickr8k'"):
        read("fliker8k", tmp_path)


def test_relative_paths_stay_relative(tmp_path, monkeypatch):
    write_table(tmp_path, ["image,caption", "a.jpg,x"])
    monkeypatch.chdir(tmp_path.parent)
    table = read("table", f"{tmp_path.name}/captions.csv")
    assert table["image_path"].tolist() == [f"{tmp_path.name}/a.jpg"]


@pytest.mark.real
def test_flickr8k_has_its_published_splits_with_five_captions_each(shared):
    start = time.perf_counter()
    table = read("flickr8k", shared / "data/flickr8k")
    assert time.perf_counter() - start < 1.5
    pictures = table.groupby("split")["image_id"].nunique()
    assert dict(pictures) == {"train": 6000, "val": 1000}
    assert (table.groupby("image_id").size() == 5).all()
