"""The data set of edited scenes: drawn once, the same every time, all different."""

from collections import Counter
from functools import partial
from random import Random

import pytest

from twinlens.data import drawing_folder, edited_scenes
from twinlens.data.edited_scenes import (
    FAMILIES,
    Drawing,
    Families,
    plan,
    read_edited_scenes,
)
from twinlens.data.scene_edits import sample_family
from twinlens.data.scene_layout import Scene
from twinlens.data.scenes import read_scenes
from twinlens.data.splits import SPLITS
from twinlens.data.triplets import load_triplets
from twinlens.errors import InputError

FEW = {"train": Families(3, 5, 4), "val": Families(1, 6, 5), "test": Families(2, 6, 5)}


@pytest.fixture(scope="module")
def whole():
    """Scenes, pictures and triplets of the data set as it is by default, undrawn."""
    made = plan(Drawing(FAMILIES, 96, 0))
    return made.scenes, *made.tables.values()


def read(path, **options):
    return read_edited_scenes(path, **({"image_size": 32, "families": FEW} | options))


def contents(path):
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def near(one: Scene, other: Scene) -> bool:
    """Whether two scenes differ in one thing at most, or in the background alone."""
    grounds, things = zip(one.description, other.description, strict=True)
    old, new = (Counter(each) for each in things)
    far = max((old - new).total(), (new - old).total())
    return far == 0 if grounds[0] != grounds[1] else far == 1


# === What is in it ===


def test_there_are_as_many_pictures_and_triplets_as_announced(whole):
    _, pictures, triplets = whole
    assert dict(pictures["split"].value_counts()) == {
        "train": 9600,
        "val": 800,
        "test": 2400,
    }
    assert dict(triplets["split"].value_counts()) == {
        "train": 24000,
        "val": 200,
        "test": 600,
    }
    assert pictures["image_id"].is_unique
    families = triplets.groupby("family")
    assert (families["split"].nunique() == 1).all() and len(families) == 680


def test_no_scene_is_there_twice_within_a_split_or_across(whole):
    scenes, _, _ = whole
    assert len({scene.description for scene in scenes.values()}) == len(scenes)


def test_families_that_look_like_one_already_taken_are_drawn_again(monkeypatch):
    first = sample_family(Random("0 test 0"), 6)
    calls = []

    def sampled(random, size):
        calls.append(random)
        return first if len(calls) < 4 else sample_family(random, size)

    monkeypatch.setattr(edited_scenes, "sample_family", sampled)
    made = plan(Drawing(FEW, 32, 0))
    looks = [scene.description for scene in made.scenes.values()]
    assert len(set(looks)) == len(looks) and len(calls) == 6 + 2  # the second and third


def test_references_and_targets_are_of_one_family_and_no_pair_comes_twice(whole):
    _, _, triplets = whole
    for column in ("reference_id", "target_id"):
        assert (triplets[column].str[:-3] == triplets["family"]).all()
    assert (triplets["reference_id"] != triplets["target_id"]).all()
    assert not triplets.duplicated(["reference_id", "target_id"]).any()


def test_one_change_has_one_kind_and_two_have_two(whole):
    _, _, triplets = whole
    assert set(triplets["changes"]) == {1, 2}
    kinds = triplets["kind"].str.split("+")
    assert (kinds.str.len() == triplets["changes"]).all()
    assert (kinds.map(sorted) == kinds).all()


def test_where_it_is_searched_every_other_scene_is_as_near_to_the_reference(whole):
    """So the reference alone cannot tell which one is meant; in training it may."""
    _, _, triplets = whole
    of_first = triplets["reference_id"].str.endswith("_00")
    shares = of_first.groupby(triplets["split"]).mean()
    assert shares["val"] == shares["test"] == 1 and shares["train"] < 0.2
    alone = read_families(Families(2, 6, 30, from_first=True))
    assert alone.groupby("family")["reference_id"].nunique().tolist() == [1, 1]
    assert alone.groupby("family").size().max() <= 5  # six scenes, the first one asks


def read_families(size):
    """Triplets of test with so many families."""
    drawing = Drawing(FEW | {"test": size}, 32, 0)
    found = plan(drawing).tables["triplets.csv"]
    return found[found["split"] == "test"]


def test_in_training_a_picture_is_part_of_many_triplets(whole):
    _, _, triplets = whole
    train = triplets[triplets["split"] == "train"]
    parts = Counter(train["reference_id"]) + Counter(train["target_id"])
    assert len(parts) > 9000 and 4 < sum(parts.values()) / 9600 < 5.5


def test_targets_have_more_near_misses_than_the_first_answers_hold(whole):
    scenes, pictures, triplets = whole
    test = triplets[triplets["split"] == "test"]
    gallery = pictures.groupby(pictures["image_id"].str[:-3])["image_id"].agg(list)
    counts = [
        sum(near(scenes[other], scenes[row.target_id]) for other in gallery[row.family])
        for row in test.itertuples()
    ]
    assert sum(counts) / len(counts) >= 5
    references = set(test["reference_id"])
    assert references <= set(pictures["image_id"][pictures["split"] == "test"])
    assert (
        pictures.groupby(["split", pictures["image_id"].str[:-3]]).size() >= 8
    ).all()


def test_hundreds_of_pictures_fit_what_a_wish_says_of_the_target(whole):
    """A shape that something becomes, and one that is gone, are in any family."""
    scenes, pictures, triplets = whole
    names = pictures["image_id"][pictures["split"] == "test"]
    test = triplets[triplets["split"] == "test"]
    shapes = {name: {o.shape for o in scenes[name].objects} for name in names}
    for kind in ("shape", "remove"):
        for row in test[test["kind"] == kind].itertuples():
            before, after = shapes[row.reference_id], shapes[row.target_id]
            fit = [
                name
                for name in names
                if after - before <= shapes[name]
                and not (before - after) & shapes[name] - after
            ]
            assert len(fit) >= 100, row.wish


# === The folder ===


def test_the_reader_gives_triplets_and_galleries_of_all_pictures(tmp_path, monkeypatch):
    few = partial(read_edited_scenes, families=FEW)
    monkeypatch.setattr(edited_scenes, "read_edited_scenes", few)
    data = load_triplets("edited_scenes", tmp_path / "new")
    assert data.problems == [] and data.rule == "one sentence" and data.keeps_reference
    assert list(data.triplets)[5:] == ["changes", "kind", "family"]
    assert data.triplets["split"].value_counts().to_dict() == {
        "train": 12,
        "test": 10,
        "val": 5,
    }
    for split in SPLITS:
        expected = [
            f"{split}_{family:03d}_{scene:02d}"
            for family in range(FEW[split].count)
            for scene in range(FEW[split].scenes)
        ]
        assert data.gallery("all", split, "all").tolist() == expected
    with pytest.raises(InputError, match="'edited_scenes' does not use `images`"):
        load_triplets("edited_scenes", tmp_path / "new", images="elsewhere")


def test_reading_draws_every_picture_once(tmp_path, monkeypatch):
    first = read(tmp_path)
    assert len(list((tmp_path / "images").iterdir())) == 3 * 5 + 6 + 2 * 6
    monkeypatch.setattr(drawing_folder, "draw_scene", None)  # would fail if called
    again = read(tmp_path)
    assert again.rows.equals(first.rows) and again.pictures.equals(first.pictures)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        read(tmp_path / name, seed=seed)
    one, again, two = (contents(tmp_path / name) for name in ("one", "again", "two"))
    assert one == again
    same = {name for name, content in one.items() if content == two[name]}
    assert same == {"pictures.csv"}  # the names of pictures say nothing of them
    read(tmp_path / "one", seed=2)  # in place
    assert contents(tmp_path / "one") == two


def test_an_interrupted_drawing_is_completed_to_the_same_files(tmp_path, monkeypatch):
    read(tmp_path / "whole")
    draw, drawn = drawing_folder.draw_scene, []

    def interrupted(*arguments):
        if len(drawn) == 7:
            raise KeyboardInterrupt
        drawn.append(arguments)
        return draw(*arguments)

    monkeypatch.setattr(drawing_folder, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "cut")
    assert not (tmp_path / "cut" / "complete.json").exists()
    monkeypatch.setattr(
        drawing_folder, "draw_scene", lambda *a: drawn.append(a) or draw(*a)
    )
    read(tmp_path / "cut")
    assert len(drawn) == 33
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_test_stays_the_same_with_fewer_families_of_train():
    fewer = plan(Drawing(FEW | {"train": Families(1, 5, 4)}, 32, 0))
    for name, table in plan(Drawing(FEW, 32, 0)).tables.items():
        both = (each[each["split"] == "test"] for each in (table, fewer.tables[name]))
        assert next(both).equals(next(both))


def test_wishes_stay_what_they_were(whole):
    """A change of these needs another `Drawing.version`, or old folders mix in."""
    _, _, triplets = whole
    assert triplets["wish"][0] == "make the square big"
    assert triplets["wish"].iloc[-1] == (
        "turn the heart into a pentagon and turn the half moon into a circle"
    )


# === Bad inputs ===


def test_a_folder_of_something_else_is_refused_and_not_touched(tmp_path):
    (tmp_path / "triplets.csv").write_text("mine")
    with pytest.raises(InputError, match="not of the edited scenes: triplets.csv"):
        read(tmp_path)
    with pytest.raises(InputError, match="is a file, but edited scenes need a folder"):
        read(tmp_path / "triplets.csv")
    assert (tmp_path / "triplets.csv").read_text() == "mine"


def test_the_two_drawn_data_sets_do_not_overwrite_each_other(tmp_path):
    read_scenes(tmp_path / "a", num_scenes=15, image_size=32)
    with pytest.raises(InputError, match="edited scenes: captions.csv, images/scene_"):
        read(tmp_path / "a")
    read(tmp_path / "b")
    with pytest.raises(InputError, match="drawn scenes: images/test_000_00.jpg"):
        read_scenes(tmp_path / "b", num_scenes=15, image_size=32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, "image_size is 8 pixels, .* at least 32"),
        ({"families": {"train": Families(1, 5, 4)}}, "families of train; expected"),
        (
            {"families": FEW | {"val": Families(1, 1, 4)}},
            "val split has 1 families of 1 scenes with 4 triplets each; expected 1 to",
        ),
        ({"families": FEW | {"test": Families(1001, 5, 4)}}, "1 to 1000 families"),
        ({"families": FEW | {"test": Families(1, 5, 0)}}, "1 triplet or more"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_half_of_the_wishes_are_for_one_change(whole):
    *_, triplets = whole
    one = (triplets["changes"] == 1).groupby(triplets["split"]).mean()
    assert one["test"] == pytest.approx(0.5, abs=0.06)
    assert one["train"] > 0.4
