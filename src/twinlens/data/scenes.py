"""The built-in data set: drawn scenes with five captions each, no download needed.

The pictures are drawn on first use. Scenes, captions and split depend on `seed` alone.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pandas as pd

from twinlens.data.drawing_folder import DrawingFolder, Plan, picture_file
from twinlens.data.scene_captions import captions_of as captions_of
from twinlens.data.scene_drawing import draw_scene as draw_scene
from twinlens.data.scene_layout import Scene as Scene
from twinlens.data.scene_layout import SceneObject as SceneObject
from twinlens.data.scene_layout import sample_scene as sample_scene
from twinlens.data.scene_layout import sample_scenes as sample_scenes
from twinlens.errors import InputError

TABLE = "captions.csv"
VAL_SHARE, TEST_SHARE = 2 / 15, 1 / 5  # 400 and 600 of 3,000


@dataclass(frozen=True)
class Drawing:
    """What decides every file of the data set."""

    num_scenes: int
    image_size: int
    seed: int
    version: int = 1  # raise it when scenes, captions or pictures change


def read_scenes(
    path: str | Path, num_scenes: int = 3000, image_size: int = 128, seed: int = 0
) -> pd.DataFrame:
    """The caption table of the drawn scenes, five rows a picture.

    The first call draws the pictures into `path`, about ten seconds for 3,000; after an
    interruption the next call draws what is missing. With other arguments than
    before they are drawn anew.

    Args:
        path: folder of the data set; made if it is not there.
        num_scenes: pictures; two thirds of them train, the rest val and test.
        image_size: pixels a side.
        seed: other scenes for another seed.

    Returns:
        `image_id, image_path, caption, split` and the attributes `num_objects`,
        `background`, and `main_shape`, `main_colour`, `main_size`, `main_texture` of
        the largest object.

    Raises:
        InputError: the folder holds files that are not this data set's, or a
            number is too small.
    """
    path, drawing = Path(path), Drawing(num_scenes, image_size, seed)
    if num_scenes < 15:
        raise InputError(
            f"num_scenes is {num_scenes}, but train, val and test need 15 or more. "
            "Ask for at least 15 scenes; the default is 3000."
        )
    folder = DrawingFolder(path, "drawn scenes", r"scene_\d{5,}", (TABLE,))
    folder.fill(drawing, lambda: _plan(drawing))
    table = pd.read_csv(path / TABLE)
    table["image_path"] = [str(path / file) for file in table["image_path"]]
    return table


def scene_table(scenes: list[Scene], seed: int) -> pd.DataFrame:
    """The caption table of `scenes`; paths are relative to the folder."""
    num_test = round(len(scenes) * TEST_SHARE)
    num_val = round(len(scenes) * VAL_SHARE)
    num_train = len(scenes) - num_val - num_test
    splits = ["train"] * num_train + ["val"] * num_val + ["test"] * num_test
    rows = []
    for number, (scene, split) in enumerate(zip(scenes, splits, strict=True), start=1):
        name = _name(number)
        random = Random(f"{seed} {number}")
        for caption in captions_of(scene, random):
            first = {"image_id": name, "image_path": picture_file(name)}
            rows.append(first | {"caption": caption, "split": split} | _facts(scene))
    return pd.DataFrame(rows)


def _facts(scene: Scene) -> dict[str, str | int]:
    sizes = ("large", "medium", "small")
    main = min(scene.objects, key=lambda thing: sizes.index(thing.size))
    return {
        "num_objects": len(scene.objects),
        "background": scene.background,
        "main_shape": main.shape,
        "main_colour": main.colour,
        "main_size": main.size,
        "main_texture": main.texture,
    }


def _plan(drawing: Drawing) -> Plan:
    scenes = sample_scenes(drawing.num_scenes, drawing.seed)
    named = {_name(number): scene for number, scene in enumerate(scenes, start=1)}
    return Plan(named, {TABLE: scene_table(scenes, drawing.seed)})


def _name(number: int) -> str:
    return f"scene_{number:05d}"
