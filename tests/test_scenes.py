"""Drawn scenes: the same every time, all different, and truly described."""

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from twinlens.data import drawing_folder, scenes
from twinlens.data import scene_captions as words
from twinlens.data.scene_drawing import COLOUR_VALUES, RING_HOLE, draw_scene
from twinlens.data.scene_layout import BACKGROUNDS, RADII, SHAPES, relation
from twinlens.errors import InputError

MANY = scenes.sample_scenes(300, seed=5)
SOLID_POINT = {  # where a shape with a hollow middle is filled, in radii
    "ring": (-(0.95 + RING_HOLE) / 2, 0),
    "crescent": (-0.6, 0.2),
}


def thing(shape="circle", colour="red", size="large", x=0.5, y=0.5):
    return scenes.SceneObject(shape, colour, size, "plain", x, y)


def words_of(caption: str, table: dict) -> list[str]:
    """The attributes that a caption's words stand for, in order of appearance."""
    meaning = {word: name for name, options in table.items() for word in options}
    longest_first = sorted(meaning, key=len, reverse=True)
    pattern = rf"(?<![-\w])({'|'.join(map(re.escape, longest_first))})(?![-\w])"
    return [meaning[found] for found in re.findall(pattern, caption.lower())]


def test_the_same_seed_gives_the_same_captions_to_the_letter():
    first = scenes.scene_table(scenes.sample_scenes(20, 3), 3)
    again = scenes.scene_table(scenes.sample_scenes(20, 3), 3)
    assert first.to_csv() == again.to_csv()
    other = scenes.scene_table(scenes.sample_scenes(20, 4), 4)
    assert set(first["caption"]).isdisjoint(other["caption"])


def test_captions_stay_what_they_were():
    """A change of these needs another `Drawing.version`, or old folders mix in."""
    table = scenes.scene_table(scenes.sample_scenes(20, 0), 0)
    assert table["caption"][0] == (
        "A chequered black pentagon and a large striped violet heart on graph paper."
    )


def test_fewer_scenes_are_the_first_of_more():
    assert scenes.sample_scenes(20, 3) == scenes.sample_scenes(50, 3)[:20]


def test_no_two_scenes_have_the_same_description():
    assert len({scene.description for scene in MANY}) == len(MANY)


@pytest.mark.parametrize("table", ["SHAPE", "COLOUR", "SIZE", "TEXTURE"])
def test_every_caption_says_only_what_is_there(table):
    attribute = table.lower()
    for number, scene in enumerate(MANY):
        there = {getattr(thing, attribute) for thing in scene.objects}
        for caption in words.captions_of(scene, Random(number)):
            said = words_of(caption, getattr(words, f"{table}_WORDS"))
            assert set(said) <= there, (caption, scene)


def test_every_caption_names_shape_and_colour_of_every_object():
    for number, scene in enumerate(MANY):
        pairs = sorted((thing.colour, thing.shape) for thing in scene.objects)
        for caption in words.captions_of(scene, Random(number)):
            colours = words_of(caption, words.COLOUR_WORDS)
            shapes = words_of(caption, words.SHAPE_WORDS)
            assert sorted(zip(colours, shapes, strict=True)) == pairs, caption


def test_places_and_backgrounds_are_true_and_complete():
    for number, scene in enumerate(MANY):
        captions = words.captions_of(scene, Random(number))
        for caption in captions[:1] + captions[3:4]:
            assert words_of(caption, words.BACKGROUND_WORDS) == [scene.background]
        said = words_of(captions[1], words.PLACE_WORDS)
        assert sorted(said) == sorted(thing.place for thing in scene.objects)


def test_the_five_captions_of_a_scene_differ():
    for number, scene in enumerate(MANY):
        assert len(set(words.captions_of(scene, Random(number)))) == 5


def test_relations_follow_the_larger_distance():
    middle = thing(shape="ring")
    assert relation(thing(x=0.2), middle) == "left"
    assert relation(thing(x=0.8, y=0.6), middle) == "right"
    assert relation(thing(y=0.2), middle) == "above"
    assert relation(thing(y=0.8), middle) == "below"
    assert relation(thing(x=0.8, y=0.8), middle) == ""  # neither clearly
    assert relation(thing(size="small"), middle) == "inside"


def test_objects_never_hide_one_another():
    inside = 0
    for scene in MANY:
        for i, a in enumerate(scene.objects):
            for b in scene.objects[i + 1 :]:
                if relation(b, a) == "inside":
                    inside += 1
                    assert RADII[b.size] < RING_HOLE * RADII[a.size]
                    continue
                nearest = max(abs(a.x - b.x), abs(a.y - b.y))
                assert nearest >= RADII[a.size] + RADII[b.size]
    assert inside > 0


def test_an_object_has_its_colour_where_it_is():
    for scene in MANY[:100]:
        plain = replace(
            scene, objects=tuple(replace(o, texture="plain") for o in scene.objects)
        )
        pixels = np.asarray(draw_scene(plain, 128), int)
        for o in plain.objects:
            right, down = SOLID_POINT.get(o.shape, (0, 0))
            holds_another = any(relation(p, o) == "inside" for p in scene.objects)
            assert not holds_another or o.shape == "ring"
            column = round((o.x + right * RADII[o.size]) * 128 - 0.5)
            row = round((o.y + down * RADII[o.size]) * 128 - 0.5)
            distance = np.abs(pixels[row, column] - COLOUR_VALUES[o.colour]).max()
            assert distance <= 2, o


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_shapes_and_textures_can_be_told_apart(background):
    empty = np.asarray(draw_scene(scenes.Scene((), background)), int)
    pictures = [
        np.asarray(draw_scene(scenes.Scene((o,), background)), int)
        for shape in SHAPES
        for o in [thing(shape), replace(thing(shape), texture="striped")]
    ]
    for i, picture in enumerate(pictures):
        assert np.abs(picture - empty).max(axis=-1).mean() > 1
        for other in pictures[:i]:
            assert np.abs(picture - other).max(axis=-1).mean() > 0.3


def test_reading_draws_every_picture_once(tmp_path, monkeypatch):
    table = scenes.read_scenes(tmp_path / "new", num_scenes=30, image_size=32)
    counts = table.drop_duplicates("image_id")["split"].value_counts()
    assert dict(counts) == {"train": 20, "test": 6, "val": 4}
    assert (table.groupby("image_id").size() == 5).all()
    assert len(list((tmp_path / "new" / "images").iterdir())) == 30
    monkeypatch.setattr(
        drawing_folder, "draw_scene", None
    )  # would fail if called again
    again = scenes.read_scenes(tmp_path / "new", num_scenes=30, image_size=32)
    assert again.equals(table)
    attributes = ["num_objects", "background", "main_shape", "main_colour"]
    assert not table[["image_path", *attributes]].isna().any(axis=None)


def test_an_interrupted_drawing_is_completed(tmp_path, monkeypatch):
    whole = scenes.read_scenes(tmp_path / "whole", num_scenes=20, image_size=32)
    drawn = []

    def interrupted(scene, size):
        if len(drawn) == 7:
            raise KeyboardInterrupt
        drawn.append(scene)
        return draw_scene(scene, size)

    monkeypatch.setattr(drawing_folder, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scenes.read_scenes(tmp_path / "cut", num_scenes=20, image_size=32)
    (tmp_path / "cut" / "images" / ".scene_00008.jpg.77.partial").touch()
    monkeypatch.setattr(
        drawing_folder, "draw_scene", lambda *a: drawn.append(a) or draw_scene(*a)
    )
    cut = scenes.read_scenes(tmp_path / "cut", num_scenes=20, image_size=32)
    assert len(drawn) == 20
    assert cut["caption"].equals(whole["caption"])
    for one, other in zip(cut["image_path"], whole["image_path"], strict=True):
        assert open(one, "rb").read() == open(other, "rb").read()


def test_another_seed_or_count_is_drawn_in_place(tmp_path):
    first = scenes.read_scenes(tmp_path, num_scenes=20, image_size=32, seed=1)
    before = open(first["image_path"][0], "rb").read()
    scenes.read_scenes(tmp_path, num_scenes=15, image_size=32, seed=2)
    assert open(first["image_path"][0], "rb").read() != before
    assert len(list((tmp_path / "images").iterdir())) == 15


@pytest.mark.parametrize("name", ["holiday.jpg", "images/holiday.jpg"])
def test_foreign_files_are_never_touched(tmp_path, name):
    scenes.read_scenes(tmp_path, num_scenes=15, image_size=32)
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        InputError, match=f"not of the drawn scenes: {name}. .*empty one"
    ):
        scenes.read_scenes(tmp_path, num_scenes=16, image_size=32)
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "captions.csv").write_text("mine")
    with pytest.raises(InputError, match="not of the drawn scenes: captions.csv"):
        scenes.read_scenes(tmp_path)
    with pytest.raises(InputError, match="is a file, but drawn scenes need a folder"):
        scenes.read_scenes(tmp_path / "captions.csv")


def test_too_few_or_too_small_scenes_are_refused(tmp_path):
    with pytest.raises(InputError, match="num_scenes is 3, but .* at least 15"):
        scenes.read_scenes(tmp_path, num_scenes=3)
    with pytest.raises(InputError, match="image_size is 8 pixels, .* at least 32"):
        scenes.read_scenes(tmp_path, image_size=8)
