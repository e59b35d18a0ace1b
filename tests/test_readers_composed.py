"""The reader of FashionIQ, and what all readers of triplets refuse."""

import json
from collections import Counter

import pytest
from PIL import Image

from twinlens.data.readers.cirr import cirr
from twinlens.data.readers.fashioniq import fashioniq, joined
from twinlens.data.readers.source import ReaderOptions
from twinlens.data.splits import hash_split
from twinlens.data.triplets import load_triplets
from twinlens.errors import InputError

ENTRY = {"target": "b", "candidate": "a", "captions": ["is red", "has no sleeves"]}


def write(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data), "utf-8")


def draw(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(file)


def make_fashioniq(root, entries=(ENTRY,), ids=("a", "b", "c"), pictures="abc"):
    """All categories are alike but for dress val, which has `entries` and `ids`."""
    for category in ("dress", "shirt", "toptee"):
        for split in ("train", "val"):
            name = f"{category}.{split}.json"
            own = (category, split) == ("dress", "val")
            write(root / f"captions/cap.{name}", entries if own else [ENTRY])
            write(root / f"image_splits/split.{name}", ids if own else ["a", "b"])
    draw(*(root / f"images/{name}.jpg" for name in pictures))
    return root


def found(problems):
    return [(problem.kind, problem.where, problem.detail) for problem in problems]


# === FashionIQ ===


def test_a_wish_is_both_captions_and_published_val_is_test(tmp_path):
    data = load_triplets("fashioniq", make_fashioniq(tmp_path))
    test = data.triplets[data.triplets["split"] == "test"]
    assert test.drop(columns="split").to_numpy().tolist() == [
        ["a", "b", "is red and has no sleeves", category]
        for category in ("dress", "shirt", "toptee")
    ]
    others = data.triplets[data.triplets["split"] != "test"]
    assert others["split"].tolist() == list(hash_split("bbb", (8 / 9, 1 / 9, 0)))
    assert data.gallery("original split", "test", "dress").tolist() == ["a", "b", "c"]
    assert data.gallery("VAL split", "test", "dress").tolist() == ["a", "b"]
    assert data.pictures.to_numpy().tolist() == [
        [name, str(tmp_path / "images" / f"{name}.jpg")] for name in "abc"
    ]
    assert (
        data.source == f"fashioniq reader, {tmp_path}; test is the published val split"
    )
    assert data.rule == "caption 1 and caption 2" and data.keeps_reference
    assert data.problems == []


@pytest.mark.parametrize(
    ("captions", "wish"),
    [
        ([" is red ", "is long\n"], "is red and is long"),
        (["", "is blue"], "is blue"),
        (["is blue", "  "], "is blue"),
        (["is blue", None], "is blue"),
        (["3/4 sleeve", 7], "3/4 sleeve and 7"),
        (["", " "], ""),
        ([], ""),
    ],
)
def test_empty_captions_are_left_out_of_a_wish(captions, wish):
    assert joined(captions) == wish


def test_entries_that_cannot_be_used_are_counted_and_left_out(tmp_path):
    entries = [
        ENTRY | {"captions": ["", " "]},
        ENTRY | {"captions": []},
        {"target": "b", "candidate": "a"},
        ENTRY | {"captions": "is red"},
        "a",
        {"captions": ["is red"], "candidate": "a"},
        ENTRY | {"candidate": None},
        ENTRY | {"target": "a"},
        ENTRY | {"target": "d"},
        ENTRY,
    ]
    make_fashioniq(tmp_path, entries, ids=["a", "b", 3, "", "a"])
    data = load_triplets("fashioniq", tmp_path)
    assert len(data.triplets) == 6  # one of each file
    an_entry = "expected `target`, `candidate` and the list `captions`"
    an_id = "expected the id of a picture"
    assert found(data.problems) == [
        ("malformed row", "cap.dress.val.json, entry 4", an_entry),
        ("malformed row", "cap.dress.val.json, entry 5", an_entry),
        ("malformed row", "split.dress.val.json, entry 3", an_id),
        ("malformed row", "split.dress.val.json, entry 4", an_id),
        (
            "empty reference",
            "cap.dress.val.json, entry 7",
            "reference '', target 'b', wish 'is red and has no sleeves'",
        ),
        (
            "empty target",
            "cap.dress.val.json, entry 6",
            "reference 'a', target '', wish 'is red'",
        ),
        *(
            (
                "empty wish",
                f"cap.dress.val.json, entry {number}",
                "reference 'a', target 'b', wish ''",
            )
            for number in (1, 2, 3)
        ),
        (
            "target is the reference",
            "cap.dress.val.json, entry 8",
            "picture a: is red and has no sleeves",
        ),
        (
            "target outside its gallery",
            "cap.dress.val.json, entry 9",
            "target d is not in the gallery 'original split' of test, category dress",
        ),
        (
            "missing picture",
            "cap.dress.val.json, entry 9",
            f"picture d: {tmp_path / 'images' / 'd.jpg'}",
        ),
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.png"], "a.png"),
        (["a.jpeg"], "a.jpeg"),
        (["a.jpeg", "a.png", "a.jpg"], "a.jpg"),
        (["a.jpeg", "a.png"], "a.png"),
    ],
)
def test_pictures_are_jpg_png_or_jpeg(tmp_path, files, expected):
    make_fashioniq(tmp_path, pictures="bc")
    draw(*(tmp_path / "images" / name for name in files))
    pictures = load_triplets("fashioniq", tmp_path).pictures
    assert pictures["image_path"][0] == str(tmp_path / "images" / expected)


def test_pictures_may_lie_in_another_folder(tmp_path):
    make_fashioniq(tmp_path / "own").joinpath("images").rename(tmp_path / "small")
    data = load_triplets("fashioniq", tmp_path / "own", images=tmp_path / "small")
    assert data.pictures["image_path"][0] == str(tmp_path / "small" / "a.jpg")
    with pytest.raises(InputError, match="No picture folder .* looked for large"):
        load_triplets("fashioniq", tmp_path / "own", images="large")


def test_triplets_can_be_counted_without_any_picture(tmp_path):
    make_fashioniq(tmp_path, pictures="")
    source = fashioniq(tmp_path, ReaderOptions())
    assert len(source.rows) == 6 and len(source.galleries["original split"]) == 13
    message = r"No triplet is left of fashioniq .*: 6 × triplet of a missing picture, "
    with pytest.raises(InputError, match=message + ".* 3 × missing picture, the first"):
        load_triplets("fashioniq", tmp_path)


@pytest.mark.parametrize(
    "name", ["captions/cap.toptee.train.json", "image_splits/split.shirt.val.json"]
)
def test_a_missing_file_is_named_with_the_layout(tmp_path, name):
    (make_fashioniq(tmp_path) / name).unlink()
    message = rf"{name} is missing. The layout is captions/cap\.{{category}}.*_splits/"
    with pytest.raises(InputError, match=message + ".*of dress, shirt and toptee"):
        load_triplets("fashioniq", tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": 1}, "cap.shirt.val.json holds an object; expected a list. The layout"),
        ("text", "cap.shirt.val.json holds str; expected a list"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, data, message):
    write(make_fashioniq(tmp_path) / "captions/cap.shirt.val.json", data)
    with pytest.raises(InputError, match=message):
        load_triplets("fashioniq", tmp_path)


# === Both ===


@pytest.mark.parametrize("reader", [fashioniq, cirr])
def test_folders_and_options_that_make_no_sense_are_refused(tmp_path, reader):
    with pytest.raises(InputError, match="gone does not exist. Give the folder"):
        reader(tmp_path / "gone", ReaderOptions())
    message = f"The reader '{reader.__name__}' does not use `captions`"
    with pytest.raises(InputError, match=message):
        reader(tmp_path, ReaderOptions(captions="cap.json"))


# === The real files ===


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """FashionIQ as published, with an empty file for each picture."""
    folder = shared / "data/fashioniq"
    images = tmp_path_factory.mktemp("images")
    for name in fashioniq(folder, ReaderOptions()).pictures["image_id"]:
        (images / f"{name}.jpg").touch()
    return load_triplets("fashioniq", folder, images=images)


@pytest.mark.real
def test_the_real_counts_are_the_published_ones(real):
    assert real.problems == []
    rows = real.triplets
    published = rows["split"].where(rows["split"] == "test", "train")
    assert Counter(zip(rows["category"], published, strict=True)) == {
        ("dress", "test"): 2017,
        ("shirt", "test"): 2038,
        ("toptee", "test"): 1961,
        ("dress", "train"): 5985,
        ("shirt", "train"): 5988,
        ("toptee", "train"): 6027,
    }


@pytest.mark.real
@pytest.mark.parametrize(
    ("category", "original", "queried"),
    [("dress", 3817, 2628), ("shirt", 6346, 3089), ("toptee", 5373, 2902)],
)
def test_the_real_galleries_have_the_published_sizes(real, category, original, queried):
    assert len(real.gallery("original split", "test", category)) == original
    pictures = real.gallery("VAL split", "test", category)
    assert len(pictures) == queried
    assert set(pictures) <= set(real.gallery("original split", "test", category))


@pytest.mark.real
def test_of_the_real_captions_fifteen_are_empty_and_no_wish_is(shared, real):
    folder = shared / "data/fashioniq/captions"
    empty = Counter()
    for file in folder.glob("cap.*.*.json"):
        entries = json.loads(file.read_text("utf-8"))
        captions = [text for entry in entries for text in entry["captions"]]
        empty[file.name] = sum(not text.strip() for text in captions)
    names = ("cap.shirt.val.json", "cap.toptee.val.json", "cap.toptee.train.json")
    assert [empty[name] for name in names] == [1, 2, 12]
    joins = real.triplets["wish"].str.contains(" and ", regex=False)
    assert (real.triplets["wish"] != "").all() and (~joins).sum() <= 15


@pytest.mark.real
def test_the_real_triplets_without_pictures_are_read_and_then_refused(shared):
    source = fashioniq(shared / "data/fashioniq", ReaderOptions())
    assert len(source.rows) == 24_016 and source.problems == []
    with pytest.raises(InputError, match="60,033 × missing picture"):
        load_triplets("fashioniq", shared / "data/fashioniq")
