"""The readers of COCO and Karpathy JSON files, and the dict of readers."""

import json
import sys

import pandas as pd
import pytest

from twinlens.data.readers import READERS
from twinlens.data.table import load, problem_counts, read
from twinlens.errors import InputError


def coco_json(**pictures):
    """`captions` by file name; the id is the number in the name."""
    images = [{"id": int(n.strip("abcdefgjp._")), "file_name": n} for n in pictures]
    annotations = [
        {"id": 0, "image_id": image["id"], "caption": caption}
        for image in images
        for caption in pictures[image["file_name"]]
    ]
    return {"info": {}, "images": images, "annotations": annotations}


def make_coco(root, files, year=2017):
    """The layout of COCO: `files` is split → captions by file name."""
    (root / "annotations").mkdir(exist_ok=True)
    for split, pictures in files.items():
        (root / f"{split}{year}").mkdir()
        for name in pictures:
            (root / f"{split}{year}" / name).touch()
        write(root / f"annotations/captions_{split}{year}.json", coco_json(**pictures))
    return root


def write(file, data):
    file.write_text(json.dumps(data))
    return file


TRAIN = {"0001.jpg": ["A dog.", "A cat."], "2.jpg": ["A bird."]}
VAL = {"3.jpg": ["A tree."]}


@pytest.mark.parametrize("year", [2014, 2017])
def test_coco_takes_its_splits_from_the_names_of_its_files(tmp_path, year):
    data = load("coco", make_coco(tmp_path, {"train": TRAIN, "val": VAL}, year))
    train = tmp_path / f"train{year}"
    assert data.problems == []
    assert data.table.to_numpy().tolist() == [
        ["1", str(train / "0001.jpg"), "A dog.", "train"],
        ["1", str(train / "0001.jpg"), "A cat.", "train"],
        ["2", str(train / "2.jpg"), "A bird.", "train"],
        ["3", str(tmp_path / f"val{year}" / "3.jpg"), "A tree.", "val"],
    ]


def test_a_single_coco_file_is_split_by_picture(tmp_path):
    pictures = {f"{number}.jpg": ["text"] for number in range(1, 40)}
    make_coco(tmp_path, {"val": pictures})
    table = read("coco", tmp_path, split_fractions=(0.4, 0.3, 0.3))
    assert set(table["split"]) == {"train", "val", "test"}
    file = tmp_path / "annotations/captions_val2017.json"
    own = read("coco", file, images=tmp_path / "val2017", split_fractions=(1, 0, 0))
    assert own["image_path"].tolist() == table["image_path"].tolist()
    assert set(own["split"]) == {"train"}


def test_two_years_of_coco_want_a_choice(tmp_path):
    make_coco(tmp_path, {"train": TRAIN, "val": VAL}, 2014)
    make_coco(tmp_path, {"train": TRAIN, "val": VAL}, 2017)
    with pytest.raises(InputError, match="several captions files.*`captions`"):
        read("coco", tmp_path)
    table = read("coco", tmp_path, captions="annotations/captions_*2017.json")
    assert table["image_path"].str.contains("2017").all()
    assert set(table["split"]) == {"train", "val"}


def test_problems_of_coco_are_counted_by_entry(tmp_path):
    make_coco(tmp_path, {"train": TRAIN | {"4.jpg": []}})
    file = tmp_path / "annotations/captions_train2017.json"
    data = json.loads(file.read_text())
    data["annotations"] += [{"image_id": 9, "caption": "Lost."}, {"image_id": 1}, None]
    data["annotations"] += [{"image_id": "2", "caption": None}]
    data["images"].append({"id": 5})
    write(file, data)
    found = [(p.kind, p.where) for p in load("coco", tmp_path).problems]
    place = "captions_train2017.json, "
    assert set(found) == {
        ("malformed row", place + "image 4"),
        ("malformed row", place + "annotation 5"),
        ("malformed row", place + "annotation 6"),
        ("caption of an unknown picture", place + "annotation 4"),
        ("empty caption", place + "annotation 7"),
        ("picture without captions", place + "image 3"),
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train": {"01.jpg": ["a"], "1.jpg": ["b"]}},
            r"Picture id 1 is given to two files: .*01.jpg \(captions_train2017.json, "
            r"image 1\) and .*1.jpg \(captions_train2017.json, image 2\)",
        ),
        ({"train": TRAIN, "val": {"1.jpg": ["a"]}}, "Picture id 1 is given to two"),
    ],
)
def test_an_id_of_two_files_is_refused(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        read("coco", make_coco(tmp_path, files))


def karpathy_json(folder=""):
    splits = ("train", "restval", "val", "test")
    return {
        "dataset": "any",
        "images": [
            {"filename": f"{n}.jpg", "imgid": n, "split": split, "filepath": folder}
            | ({"cocoid": 100 + n} if folder else {})
            | {"sentences": [{"raw": f"Text {n}.", "tokens": []}]}
            for n, split in enumerate(splits)
        ],
    }


def make_pictures(folder, count=4):
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.jpg").touch()


def test_karpathy_trains_on_restval(tmp_path):
    make_pictures(tmp_path / "Flicker8k_Dataset")
    write(tmp_path / "dataset_flickr8k.json", karpathy_json())
    data = load("karpathy", tmp_path)
    assert data.problems == []
    assert data.table["split"].tolist() == ["train", "train", "val", "test"]
    assert data.table["image_id"][0] == "0.jpg"  # as the reader of Flickr8k says it
    assert data.table["caption"][3] == "Text 3."


@pytest.mark.parametrize("place", ["", "images", ".."])
def test_karpathy_finds_the_folders_of_coco(tmp_path, place):
    root = tmp_path / "json"
    make_pictures((root / place / "val2014").resolve())
    root.mkdir(exist_ok=True)
    file = write(root / "dataset_coco.json", karpathy_json("val2014"))
    table = read("karpathy", file)
    assert table["image_id"].tolist() == ["100", "101", "102", "103"]  # COCO's own ids
    assert table["image_path"][0].endswith("val2014/0.jpg")


def test_problems_of_karpathy_files_are_counted_by_picture(tmp_path):
    make_pictures(tmp_path / "Images")
    data = karpathy_json()
    data["images"][0]["sentences"] += [{"tokens": []}, {"raw": " "}]
    data["images"][1]["sentences"] = []
    data["images"][2].pop("split")
    data["images"].append({"filename": "x.jpg"})
    problems = load(
        "karpathy", write(tmp_path / "k.json", data), images="Images"
    ).problems
    assert {(problem.kind, problem.where) for problem in problems} == {
        ("malformed row", "k.json, image 1"),
        ("empty caption", "k.json, image 1"),
        ("picture without captions", "k.json, image 2"),
        ("picture in no split", "k.json, image 3"),
        ("malformed row", "k.json, image 5"),
    }


def test_half_a_character_does_not_stop_the_reading(tmp_path):
    make_pictures(tmp_path / "Images")
    data = karpathy_json()
    data["images"][0]["sentences"][0]["raw"] = "a \ud83d dog"
    table = read("karpathy", write(tmp_path / "dataset_x.json", data))
    assert table["caption"][0] == "a ? dog"


def test_the_wrong_json_names_the_reader_that_fits(tmp_path):
    coco = write(tmp_path / "c.json", coco_json(**TRAIN))
    karpathy = write(tmp_path / "k.json", karpathy_json())
    with pytest.raises(InputError, match="not a Karpathy.*reader 'coco' would fit"):
        read("karpathy", coco)
    with pytest.raises(InputError, match="not COCO.*reader 'karpathy' would fit"):
        read("coco", karpathy)
    instances = {"images": [], "annotations": [{"image_id": 1, "bbox": []}]}
    with pytest.raises(InputError, match="no captions. Give captions_"):
        read("coco", write(tmp_path / "i.json", instances))
    with pytest.raises(InputError, match="expected an object with the lists"):
        read("coco", write(tmp_path / "l.json", [1, 2]))


def test_broken_json_is_named_by_row_and_column(tmp_path):
    (tmp_path / "dataset_x.json").write_text('{"images": [\n  {"filename" "a"}]}')
    with pytest.raises(InputError, match="dataset_x.json, row 2, column 15: not valid"):
        read("karpathy", tmp_path)


def test_missing_json_and_pictures_say_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"looked for annotations/captions_\*.json"):
        read("coco", tmp_path)
    with pytest.raises(InputError, match=r"looked for dataset_\*.json"):
        read("karpathy", tmp_path)
    write(tmp_path / "dataset_a.json", karpathy_json("val2014"))
    with pytest.raises(InputError, match="looked for val2014"):
        read("karpathy", tmp_path)
    write(tmp_path / "dataset_b.json", karpathy_json())
    with pytest.raises(InputError, match="several split files: dataset_a.json, data"):
        read("karpathy", tmp_path)
    with pytest.raises(InputError, match="The reader 'karpathy' would fit"):
        read("coco", tmp_path)


def test_a_further_reader_is_a_function_and_a_line(tmp_path, monkeypatch):
    from twinlens.data.readers.source import Source

    (tmp_path / "a.jpg").touch()
    row = {"image_id": 1, "image_path": str(tmp_path / "a.jpg"), "caption": "x"}
    rows = pd.DataFrame([row, row | {"caption": None}])
    monkeypatch.setitem(READERS, "mine", lambda path, options: Source(rows))
    data = load("mine", tmp_path)
    assert data.table["image_id"].tolist() == ["1"]
    assert problem_counts(data.problems) == {"empty caption": 1}
    assert data.problems[0].where == "row 2"


def test_reading_needs_no_tensorflow():
    import subprocess

    code = "import sys, twinlens.data.table; print('tensorflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.stdout.strip() == "False", result.stderr
