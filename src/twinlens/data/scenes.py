"""The built-in data set: drawn scenes with five captions each, no download needed.

The pictures are drawn on first use. Scenes, captions and split depend on `seed` alone.
"""

import io
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import pandas as pd
from PIL import Image

from twinlens.data.scene_captions import captions_of as captions_of
from twinlens.data.scene_drawing import draw_scene as draw_scene
from twinlens.data.scene_layout import Scene as Scene
from twinlens.data.scene_layout import SceneObject as SceneObject
from twinlens.data.scene_layout import sample_scene as sample_scene
from twinlens.data.scene_layout import sample_scenes as sample_scenes
from twinlens.errors import InputError
from twinlens.progress import Progress

TABLE, STARTED, COMPLETE = "captions.csv", "started.json", "complete.json"
VAL_SHARE, TEST_SHARE = 2 / 15, 1 / 5  # 400 and 600 of 3,000
JPEG = {"quality": 92, "subsampling": 0}  # without subsampling edges keep their colour
_OURS = re.compile(
    r"images|(images/)?\.\S+\.partial|images/scene_\d{5,}\.jpg"
    rf"|{re.escape(TABLE)}|{re.escape(STARTED)}|{re.escape(COMPLETE)}"
)


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
    _check(drawing)
    if _read_json(path / COMPLETE) != asdict(drawing):
        _draw(path, drawing)
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
        name = f"scene_{number:05d}"
        random = Random(f"{seed} {number}")
        for caption in captions_of(scene, random):
            first = {"image_id": name, "image_path": f"images/{name}.jpg"}
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


def _check(drawing: Drawing) -> None:
    if drawing.num_scenes < 15:
        raise InputError(
            f"num_scenes is {drawing.num_scenes}, but train, val and test need 15 or "
            "more. Ask for at least 15 scenes; the default is 3000."
        )
    if drawing.image_size < 32:
        raise InputError(
            f"image_size is {drawing.image_size} pixels, but textures need 32 or more. "
            "Ask for at least 32; the default is 128."
        )


def _draw(path: Path, drawing: Drawing) -> None:
    """Draws what is missing; the marker that all is there is written last."""
    _refuse_foreign_files(path)
    (path / "images").mkdir(parents=True, exist_ok=True)
    if _read_json(path / STARTED) != asdict(drawing):
        _remove_drawing(path)
        _write(path / STARTED, json.dumps(asdict(drawing), indent=1).encode())
    scenes = sample_scenes(drawing.num_scenes, drawing.seed)
    with Progress("drawing scenes", len(scenes), "scenes") as progress:
        for number, scene in enumerate(scenes, start=1):
            file = path / "images" / f"scene_{number:05d}.jpg"
            if not file.exists():
                _save(draw_scene(scene, drawing.image_size), file)
            progress.advance()
    table = scene_table(scenes, drawing.seed)
    _write(path / TABLE, table.to_csv(index=False, lineterminator="\n").encode())
    _write(path / COMPLETE, json.dumps(asdict(drawing), indent=1).encode())


def _refuse_foreign_files(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(
            f"{path} is a file, but scenes need a folder. Name another one."
        )
    found = [*path.glob("*"), *(path / "images").glob("*")]
    names = sorted(str(file.relative_to(path)).replace(os.sep, "/") for file in found)
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if names and STARTED not in names and not foreign:
        foreign = names
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise InputError(
            f"{path} holds files that are not of the drawn scenes: "
            f"{', '.join(foreign[:3])}{more}. Scenes are drawn into a folder of their "
            "own: name an empty one, or move these files away."
        )


def _remove_drawing(path: Path) -> None:
    for file in (path / COMPLETE, path / STARTED, path / TABLE):
        file.unlink(missing_ok=True)
    for file in (path / "images").iterdir():
        file.unlink()


def _save(picture: Image.Image, file: Path) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **JPEG)
    _write(file, buffer.getvalue())


def _write(file: Path, contents: bytes) -> None:
    """All of the file or nothing, also where the process ends in the middle."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_bytes(contents)
    partial.replace(file)


def _read_json(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
