"""The readers of plain tables and of folders of pictures with texts."""

import json

import pandas as pd
import pytest

from twinlens.data.table import load, problem_counts, read
from twinlens.errors import InputError

ROWS = [
    {"image": "a.jpg", "caption": 'A "red", round ball', "price": 3},
    {"image": "b.jpg", "caption": "Ein grüner Würfel", "price": None},
]


def write(file, rows):
    frame = pd.DataFrame(rows).convert_dtypes()
    writers = {
        ".csv": lambda: frame.to_csv(file, index=False),
        ".tsv": lambda: frame.to_csv(file, index=False, sep="\t"),
        ".jsonl": lambda: file.write_text("\n".join(map(json.dumps, rows)), "utf-8"),
        ".parquet": lambda: frame.to_parquet(file),
    }
    writers[file.suffix]()
    return file


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_table(folder, suffix):
    table = read("table", write(folder / f"captions{suffix}", ROWS))
    assert table["caption"].tolist() == [row["caption"] for row in ROWS]
    assert table["image_id"].tolist() == ["a.jpg", "b.jpg"]
    assert table["image_path"].tolist() == [str(folder / n) for n in ("a.jpg", "b.jpg")]
    assert table["price"].tolist() == ["3", ""]


def test_columns_are_mapped_and_one_in_the_way_is_kept(folder):
    rows = ["file,title,caption,posting", "a.jpg,Ball,unused,p1", "b.jpg,Cube,,p2"]
    (folder / "items.csv").write_text("\n".join(rows))
    columns = {"image_path": "file", "caption": "title", "image_id": "posting"}
    table = read("table", folder, captions="items.csv", columns=columns)
    assert table["caption"].tolist() == ["Ball", "Cube"]
    assert table["image_id"].tolist() == ["p1", "p2"]
    assert table["source_caption"].tolist() == ["unused", ""]
    assert {"file", "title", "posting"}.isdisjoint(table)


def test_one_column_may_serve_as_two(folder):
    (folder / "c.csv").write_text("image,caption\na.jpg,Ball\n")
    table = read("table", folder / "c.csv", columns={"image_id": "caption"})
    assert table[["image_id", "caption"]].to_numpy().tolist() == [["Ball", "Ball"]]


def test_pictures_may_lie_in_another_folder(folder):
    (folder / "texts").mkdir()
    file = write(folder / "texts/captions.csv", ROWS)
    table = read("table", file, images=folder)
    assert table["image_path"][0] == str(folder / "a.jpg")


def test_two_spellings_of_a_path_are_one_picture(folder):
    (folder / "c.csv").write_text("image,caption\na.jpg,x\n./a.jpg,y\n")
    assert read("table", folder / "c.csv")["image_id"].nunique() == 1


def test_rows_are_numbered_by_the_line_they_end_on(folder):
    text = 'image,caption\na.jpg,"two\nlines"\nb.jpg,\u2028\nb.jpg,fine\n'
    (folder / "c.csv").write_text(text, "utf-8")
    problems = load("table", folder / "c.csv").problems
    assert [(p.kind, p.where) for p in problems] == [("empty caption", "c.csv, row 4")]


def test_a_broken_line_of_json_is_counted(folder):
    lines = [json.dumps(ROWS[0]), '{"image": ', "[1]", '{"image": "b.jpg"}']
    (folder / "c.jsonl").write_text("\n".join(lines))
    data = load("table", folder / "c.jsonl")
    assert [(problem.kind, problem.where) for problem in data.problems] == [
        ("malformed row", "c.jsonl, row 2"),
        ("malformed row", "c.jsonl, row 3"),
        ("empty caption", "c.jsonl, row 4"),
        ("picture without captions", "c.jsonl, row 4"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        (
            "c.csv",
            "image,captoin\n",
            None,
            "no column 'caption' or 'text'; it has 'image', 'captoin'. The nearest is "
            "'captoin'",
        ),
        ("c.csv", "image,text\n", {"caption": "title"}, "no column 'title'; it has"),
        ("c.csv", "image,text\n", {"picture": "image"}, "unknown name 'picture'"),
        ("c.csv", "image,image\n", None, r"columns \['image'\] more than once"),
        ("c.csv", "", None, "c.csv is empty"),
        ("c.csv", 'image,text\na.jpg,"b"c\n', None, "c.csv, row 2: not valid CSV"),
        ("c.parquet", "not parquet", None, "cannot be read as Parquet"),
        ("c.txt", "a.jpg#0\ta dog\n", None, "reader 'flickr8k' would fit"),
        ("c.xml", "<a/>", None, "is none of .csv, .tsv, .jsonl, .parquet"),
        (
            "c.csv",
            "image_name| comment_number| comment\n",
            None,
            "The reader 'flickr30k' would fit",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_why(folder, name, text, columns, message):
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read("table", folder / name, columns=columns)


def test_text_that_is_not_utf8_is_named_by_row_and_byte(folder):
    (folder / "c.csv").write_bytes(b"image,caption\na.jpg,caf\xe9\n")
    message = r"c.csv, row 2: byte 23 \(0xe9\) is not UTF-8. Save"
    with pytest.raises(InputError, match=message):
        read("table", folder / "c.csv")


def test_a_folder_is_read_one_caption_a_line(folder):
    (folder / "a.txt").write_text("first\n\nsecond\n")
    (folder / "b.txt").write_text("\ufeffthird", "utf-8")
    (folder / "notes.txt").write_text("no picture")
    (folder / "lonely.png").touch()
    data = load("folder", folder)
    assert data.table["caption"].tolist() == ["first", "second", "third"]
    assert {(problem.kind, problem.where) for problem in data.problems} == {
        ("empty caption", "a.txt, row 2"),
        ("caption of an unknown picture", "notes.txt"),
        ("picture without captions", str(folder / "lonely.png")),
    }


def test_sub_folders_named_as_splits_are_the_splits(tmp_path):
    for name in ("train/x/1", "validation/2", "test/3", "4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.JPG").touch()
        (tmp_path / f"{name}.txt").write_text("text")
    data = load("folder", tmp_path)
    assert dict(zip(data.table["image_id"], data.table["split"], strict=True)) == {
        "train/x/1.JPG": "train",
        "validation/2.JPG": "val",
        "test/3.JPG": "test",
    }
    assert problem_counts(data.problems) == {"picture in no split": 1}


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="holds no picture"):
        read("folder", tmp_path)
    with pytest.raises(InputError, match="is a file; the reader 'folder' expects"):
        read("folder", tmp_path / "a.txt")


def test_an_option_without_effect_is_refused(folder):
    with pytest.raises(InputError, match="'folder' does not use `columns`"):
        read("folder", folder, columns={"caption": "text"})
