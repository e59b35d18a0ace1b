"""The readers of product data: Fashion Product Images and Shopee's postings."""

import ast
import csv
import re
from collections import Counter

import pandas as pd
import pytest

from twinlens.data.readers.shopee import decoded
from twinlens.data.splits import hash_split
from twinlens.data.table import load, problem_counts, read
from twinlens.errors import InputError

STYLES = (
    "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
    "productDisplayName"
)
SHIRT = "Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual"
POSTINGS = "posting_id,image,image_phash,title,label_group"


def make_fashion(root, *rows, pictures=("1", "2", "3")):
    (root / "images").mkdir()
    for name in pictures:
        (root / "images" / f"{name}.jpg").touch()
    (root / "styles.csv").write_text("\n".join([STYLES, *rows]) + "\n", "utf-8")
    return root


def make_shopee(root, *rows, folder="train_images", pictures=("a", "b", "c")):
    (root / folder).mkdir(exist_ok=True)
    for name in pictures:
        (root / folder / f"{name}.jpg").touch()
    (root / "train.csv").write_text("\n".join([POSTINGS, *rows]) + "\n", "utf-8")
    return root


# === Fashion ===


def test_a_product_is_its_picture_its_name_and_its_attributes(tmp_path):
    data = load("fashion", make_fashion(tmp_path, f"1,{SHIRT},A blue shirt"), images="")
    uncaptioned = {"picture without captions": 2}  # pictures that no row names
    assert problem_counts(data.problems) == uncaptioned
    (row,) = data.table.drop(columns="split").to_dict("records")
    assert row == {
        "image_id": "1",
        "image_path": str(tmp_path / "images" / "1.jpg"),
        "caption": "A blue shirt",
        "gender": "Men",
        "masterCategory": "Apparel",
        "subCategory": "Topwear",
        "articleType": "Shirts",
        "baseColour": "Blue",
        "season": "Fall",
        "year": 2011,
        "usage": "Casual",
    }
    assert data.table["year"].dtype == "Int64"


def test_names_with_unquoted_commas_are_whole_and_counted_as_kept(tmp_path):
    rows = (f"1,{SHIRT},Shirt, blue , large", f'2,{SHIRT},"Shirt, red"')
    data = load("fashion", make_fashion(tmp_path, *rows, pictures="12"))
    assert data.table["caption"].tolist() == ["Shirt, blue , large", "Shirt, red"]
    assert [(p.kind, p.where, p.detail) for p in data.problems] == [
        (
            "unquoted comma in the name, row kept",
            "styles.csv, row 2",
            "Shirt, blue , large",
        )
    ]


def test_na_and_nothing_are_missing_and_a_missing_name_leaves_a_product_out(tmp_path):
    empty = "Men,NA,,Shirts,NA,Fall,,NA"
    rows = (f"1,{empty},Shirt", f"2,{SHIRT},NA", f"3,{SHIRT},")
    data = load("fashion", make_fashion(tmp_path, *rows))
    (row,) = data.table.to_dict("records")
    assert [n for n, cell in row.items() if cell == ""] == [
        "masterCategory",
        "subCategory",
        "baseColour",
        "usage",
    ]
    assert pd.isna(row["year"])
    left_out = [p for p in data.problems if p.kind == "empty caption"]
    assert [(p.where, p.detail) for p in left_out] == [
        ("styles.csv, row 3", "picture 2"),
        ("styles.csv, row 4", "picture 3"),
    ]


@pytest.mark.parametrize(("year", "kept"), [("2011.0", 2011), ("soon", pd.NA)])
def test_a_year_is_a_whole_number_or_missing(tmp_path, year, kept):
    row = f"1,{SHIRT},Shirt".replace("2011", year)
    data = load("fashion", make_fashion(tmp_path, row, pictures="1"))
    assert data.table["year"][0] is kept or data.table["year"][0] == kept
    found = [(p.kind, p.where, p.detail) for p in data.problems]
    wrong = ("year that is no whole number, row kept without it", "styles.csv, row 2")
    assert found == ([(*wrong, "'soon'")] if kept is pd.NA else [])


def test_products_without_picture_and_rows_too_short_are_left_out(tmp_path):
    rows = (f"1,{SHIRT},Shirt", f"9,{SHIRT},No picture", "2,Men", f",{SHIRT},No id")
    data = load("fashion", make_fashion(tmp_path, *rows, pictures="1"))
    assert data.table["image_id"].tolist() == ["1"]
    assert [(p.kind, p.where) for p in data.problems] == [
        ("malformed row", "styles.csv, row 4"),
        ("malformed row", "styles.csv, row 5"),
        ("picture file is missing", "styles.csv, row 3"),
    ]


def test_products_are_split_by_a_hash_of_their_id(tmp_path):
    ids = [str(number) for number in range(60)]
    rows = [f"{name},{SHIRT},Shirt {name}" for name in ids]
    table = read("fashion", make_fashion(tmp_path, *rows, pictures=ids))
    assert table["split"].tolist() == hash_split(ids).tolist()


def test_another_picture_folder_and_file_can_be_named(tmp_path):
    make_fashion(tmp_path, f"1,{SHIRT},Shirt")
    (tmp_path / "images").rename(tmp_path / "small")
    (tmp_path / "styles.csv").rename(tmp_path / "own.csv")
    found = read("fashion", tmp_path, images="small", captions="own.csv")
    assert found["image_path"].tolist() == [str(tmp_path / "small" / "1.jpg")]
    assert found.equals(read("fashion", tmp_path / "own.csv", images="small"))


# === Shopee ===


def test_a_posting_is_an_item_even_if_it_shares_its_picture(tmp_path):
    rows = ("p1,a.jpg,f0,Bag,7", "p2,a.jpg,f0,Red bag,7", "p3,b.jpg,0e1,Hat,8")
    data = load("shopee", make_shopee(tmp_path, *rows))
    assert data.problems == []
    pictures = tmp_path / "train_images"
    assert data.table.drop(columns="split").to_numpy().tolist() == [
        ["p1", str(pictures / "a.jpg"), "Bag", "f0", "7"],
        ["p2", str(pictures / "a.jpg"), "Red bag", "f0", "7"],
        ["p3", str(pictures / "b.jpg"), "Hat", "0e1", "8"],
    ]
    assert list(data.table)[4:] == ["image_phash", "label_group"]


def test_a_label_group_is_never_in_two_splits(tmp_path):
    names = [f"{number}" for number in range(90)]
    rows = [f"p{n},{n}.jpg,f0,Bag {n},{int(n) // 3}" for n in names]
    shares = (0.4, 0.3, 0.3)
    make_shopee(tmp_path, *rows, pictures=names)
    table = read("shopee", tmp_path, split_fractions=shares)
    drawn = hash_split(table["label_group"], shares)
    assert table["split"].tolist() == drawn.tolist()
    assert set(table["split"]) == {"train", "val", "test"}


def test_groups_that_share_a_picture_are_in_one_split(tmp_path):
    chains = [  # a chain of three groups over two files, in an order of its own
        (f"p{n}0,x{n}.jpg,f,Bag,{n}2\np{n}1,x{n}.jpg,f,Bag,{n}1\n")
        + (f"p{n}2,y{n}.jpg,f,Bag,{n}3\np{n}3,y{n}.jpg,f,Bag,{n}2")
        for n in range(10, 40)
    ]
    names = [f"{side}{n}" for n in range(10, 40) for side in "xy"]
    table = read("shopee", make_shopee(tmp_path, *chains, pictures=names))
    smallest = table["label_group"].str[:2] + "1"
    assert table["split"].tolist() == hash_split(smallest).tolist()
    assert set(table["split"]) == {"train", "val", "test"}


def test_postings_without_picture_are_counted_and_stop_nothing(tmp_path):
    rows = ("p1,a.jpg,f0,Bag,7", "p2,gone.jpg,f0,Cap,7", "p3,gone.jpg,f0,Hat,8")
    data = load("shopee", make_shopee(tmp_path, *rows))
    assert data.table["image_id"].tolist() == ["p1"]
    assert [(p.kind, p.where) for p in data.problems] == [
        ("picture file is missing", "train.csv, row 3"),
        ("picture file is missing", "train.csv, row 4"),
    ]


def test_postings_that_lack_a_cell_are_left_out(tmp_path):
    rows = ("p1,a.jpg,f0,Bag,7", "p2,b.jpg,f0,Cap,", "p3,b.jpg", "p4,b.jpg,f0,,8")
    data = load("shopee", make_shopee(tmp_path, *rows))
    assert data.table["image_id"].tolist() == ["p1"]
    assert [(p.kind, p.where, p.detail) for p in data.problems[:3]] == [
        ("malformed row", "train.csv, row 3", "5 cells of 5, empty: label_group"),
        (
            "malformed row",
            "train.csv, row 4",
            "2 cells of 5, empty: image_phash, label_group",
        ),
        ("empty caption", "train.csv, row 5", "picture p4"),
    ]


def test_a_posting_id_that_comes_twice_is_refused(tmp_path):
    make_shopee(tmp_path, "p1,a.jpg,f0,Bag,7", "p2,b.jpg,f,Cap,8", "p1,c.jpg,f,Hat,9")
    message = "posting_id p1 is in row 2 and in row 4. Ids must be unique"
    with pytest.raises(InputError, match=message):
        read("shopee", tmp_path)


def test_pictures_may_lie_beside_the_file_or_elsewhere(tmp_path):
    make_shopee(tmp_path, "p1,a.jpg,f0,Bag,7", folder=".")
    assert read("shopee", tmp_path)["image_path"].tolist() == [str(tmp_path / "a.jpg")]
    (tmp_path / "own").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "own" / "a.jpg")
    found = read("shopee", tmp_path / "train.csv", images="own")
    assert found["image_path"].tolist() == [str(tmp_path / "own" / "a.jpg")]


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Plain bag", "Plain bag"),
        (r"\xe2\x80\xa6caf\xc3\xa9", "…café"),
        (r"""b"L'Oreal \xf0\x9f\x94\xa5" """.strip(), "L'Oreal 🔥"),
        (r"one\\two\tthree", "one\\two\tthree"),
        (r"C:\data", r"C:\data"),  # no text of bytes: Python never writes \d
        (r"cut \xe2\x80", r"cut \xe2\x80"),  # no whole character
        ("café \\xc3\\xa9", "café \\xc3\\xa9"),  # not ASCII, so no text of bytes
        ('b"', 'b"'),
    ],
)
def test_titles_that_are_texts_of_bytes_are_decoded(written, title):
    assert decoded(written) == title


# === Both ===


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("fashion", "id,name\n", "styles.csv, row 1: the columns are id, name; exp"),
        ("fashion", "", "the columns are none"),
        ("fashion", POSTINGS, "The reader 'shopee' would fit"),
        ("shopee", STYLES, "The reader 'fashion' would fit"),
        ("shopee", "image,caption", "The reader 'flickr8k' would fit"),
    ],
)
def test_another_header_names_what_is_expected(tmp_path, reader, text, message):
    (tmp_path / "images").mkdir()
    (tmp_path / "styles.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read(reader, tmp_path / "styles.csv", images="images")


@pytest.mark.parametrize(
    ("made", "reader"), [(make_fashion, "fashion"), (make_shopee, "shopee")]
)
def test_the_fitting_reader_is_named(tmp_path, made, reader):
    made(tmp_path)
    with pytest.raises(InputError, match=f"The reader '{reader}' would fit"):
        read("coco", tmp_path)
    with pytest.raises(InputError, match=f"Did you mean '{reader}'"):
        read(f"{reader}s", tmp_path)


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.real
def test_the_real_products_are_those_of_the_file(shared):
    folder = shared / "data/fashion"
    expected = rows_of(folder / "styles.csv")
    data = load("fashion", folder)
    assert data.problems == [] and len(data.table) == len(expected) == 4000
    plain = data.table.astype({"year": "str"}).to_dict("records")
    for row, found in zip(expected, plain, strict=True):
        assert found["image_id"] == row.pop("id")
        assert found["caption"] == " ".join(row.pop("productDisplayName").split())
        assert {name: found[name] for name in row} == row
    assert Counter(data.table["baseColour"])[""] == 2


@pytest.mark.real
def test_the_real_postings_are_those_of_the_file(shared):
    folder = shared / "data/shopee"
    names = {picture.name for picture in (folder / "train_images").iterdir()}
    expected = rows_of(folder / "train.csv")
    there = [row for row in expected if row["image"] in names]
    data = load("shopee", folder)
    assert data.table["image_id"].tolist() == [row["posting_id"] for row in there]
    assert len(there) == 32 and data.table["image_path"].nunique() == 30
    missing = {"picture file is missing": len(expected) - len(there)}
    assert problem_counts(data.problems) == missing


@pytest.mark.real
def test_all_real_titles_are_what_python_reads_in_them(shared):
    escaped = 0
    for row in rows_of(shared / "data/shopee/train.csv"):
        title = row["title"]
        if not re.match("b['\"]", title):
            title = "b'" + title.replace("'", "\\'") + "'"
        assert decoded(row["title"]) == ast.literal_eval(title).decode()
        escaped += decoded(row["title"]) != row["title"]
    assert escaped == 1049  # 352 with b"…", 697 more with a backslash
