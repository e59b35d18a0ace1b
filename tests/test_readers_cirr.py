"""The reader of CIRR."""

import json

import pytest
from PIL import Image

from twinlens.data.triplets import load_triplets
from twinlens.errors import InputError

PAIR = {
    "pairid": 12060,
    "reference": "dev-1",
    "target_hard": "dev-2",
    "target_soft": {"dev-2": 1.0, "dev-3": -1.0},
    "caption": "show three bottles",
    "img_set": {"id": 3, "members": ["dev-2", "dev-1", "dev-3"], "target_rank": 0},
}
TRAIN_PAIR = PAIR | {"reference": "train-1", "target_hard": "train-2"}


def write(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data), "utf-8")


def draw(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(file)


def make_cirr(root, entries=(PAIR,), paths=None, pictures="."):
    """Published train has one triplet; val has `entries` and `paths`."""
    val = {f"dev-{n}": f"./dev/dev-{n}.png" for n in (1, 2, 3)}
    train = {f"train-{n}": f"./train/{n}/train-{n}.png" for n in (1, 2)}
    write(root / "captions/cap.rc2.val.json", entries)
    write(root / "captions/cap.rc2.train.json", [TRAIN_PAIR])
    write(root / "image_splits/split.rc2.val.json", paths or val)
    write(root / "image_splits/split.rc2.train.json", train)
    draw(*(root / pictures / path for path in (val | train).values()))
    return root


def found(problems):
    return [(problem.kind, problem.where, problem.detail) for problem in problems]


@pytest.mark.parametrize("pictures", [".", "img_raw"])
def test_a_pair_of_cirr_is_one_triplet_with_its_set(tmp_path, pictures):
    data = load_triplets("cirr", make_cirr(tmp_path, pictures=pictures))
    assert data.problems == []
    row = data.triplets[data.triplets["split"] == "test"].to_dict("records")
    assert row == [
        {
            "reference_id": "dev-1",
            "target_id": "dev-2",
            "wish": "show three bottles",
            "split": "test",
            "category": "all",
            "members": "dev-2 dev-1 dev-3",
        }
    ]
    original = data.gallery("original split", "test", "all")
    assert original.tolist() == ["dev-1", "dev-2", "dev-3"]
    assert data.gallery("VAL split", "test", "all").tolist() == ["dev-1", "dev-2"]
    paths = dict(data.pictures.itertuples(index=False))
    assert paths["dev-3"] == str(tmp_path / pictures / "dev" / "dev-3.png")
    assert paths["train-2"] == str(tmp_path / pictures / "train" / "2" / "train-2.png")
    assert data.source == f"cirr reader, {tmp_path}; test is the published val split"
    assert data.rule == "the one caption" and not data.keeps_reference


def test_pictures_of_cirr_may_lie_in_another_folder(tmp_path):
    make_cirr(tmp_path / "cirr", pictures="../nlvr2")
    data = load_triplets("cirr", tmp_path / "cirr", images=tmp_path / "nlvr2")
    paths = data.pictures["image_path"].tolist()
    assert str(tmp_path / "nlvr2" / "dev" / "dev-1.png") in paths


def test_pairs_that_cannot_be_used_are_counted_and_left_out(tmp_path):
    entries = [
        PAIR | {"caption": " "},
        [],
        PAIR | {"target_hard": "dev-1"},
        PAIR | {"target_hard": "dev-9"},
        PAIR | {"reference": "dev-9"},
        PAIR | {"reference": "dev-3"},
        {key: PAIR[key] for key in ("reference", "target_hard", "caption")},
    ]
    paths = {"dev-1": "./dev/dev-1.png", "dev-2": "dev/dev-2.png", "dev-3": None}
    data = load_triplets("cirr", make_cirr(tmp_path, entries, paths))
    assert data.triplets["members"].tolist()[1:] == [""]
    assert [problem[:2] for problem in found(data.problems)] == [
        ("malformed row", "cap.rc2.val.json, entry 2"),
        ("malformed row", "split.rc2.val.json, entry 3"),
        ("empty wish", "cap.rc2.val.json, entry 1"),
        ("target is the reference", "cap.rc2.val.json, entry 3"),
        ("target outside its gallery", "cap.rc2.val.json, entry 4"),
        ("missing picture", "cap.rc2.val.json, entry 5"),
        ("missing picture", "cap.rc2.val.json, entry 6"),
        ("triplet of a missing picture", "cap.rc2.val.json, entry 5"),
        ("triplet of a missing picture", "cap.rc2.val.json, entry 6"),
    ]
    details = [problem.detail for problem in data.problems]
    assert "expected `reference`, `target_hard` and `caption`" in details
    assert "expected a path for the picture 'dev-3'" in details


def test_one_file_of_two_ids_is_refused(tmp_path):
    paths = {"dev-1": "./dev/dev-1.png", "dev-2": "./dev/dev-1.png"}
    message = r"Picture .*dev-1.png has two ids: dev-1 \(split.rc2.val.json, entry 1\)"
    with pytest.raises(InputError, match=message + r" and dev-2 \(.*entry 2\)"):
        load_triplets("cirr", make_cirr(tmp_path, paths=paths))


def test_a_missing_file_of_cirr_is_named_with_the_layout(tmp_path):
    (make_cirr(tmp_path) / "image_splits/split.rc2.train.json").unlink()
    message = r"split.rc2.train.json is missing. The layout is captions/cap.rc2.{split}"
    with pytest.raises(InputError, match=message):
        load_triplets("cirr", tmp_path)
    write(tmp_path / "image_splits/split.rc2.train.json", ["train-1"])
    with pytest.raises(InputError, match="holds a list; expected an object"):
        load_triplets("cirr", tmp_path)
