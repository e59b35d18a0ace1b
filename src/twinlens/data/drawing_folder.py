"""The folder of a data set that is drawn on first use: whole, resumable, its own.

What is drawn is named by a marker that is written first, and by another one that is
written last: after an interruption only the missing pictures are drawn.
"""

import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
from PIL import Image

from twinlens.data.scene_drawing import draw_scene
from twinlens.data.scene_layout import Scene
from twinlens.errors import InputError
from twinlens.progress import Progress

IMAGES, STARTED, COMPLETE = "images", "started.json", "complete.json"
JPEG = {"quality": 92, "subsampling": 0}  # without subsampling edges keep their colour
LEAST_SIZE = 32  # pixels a side; smaller textures cannot be told apart


class Drawing(Protocol):
    """A dataclass of all that decides the files: equal ones give equal files."""

    @property
    def image_size(self) -> int:
        """Pixels a side."""


@dataclass(frozen=True)
class Plan:
    """What is written into a folder.

    Args:
        scenes: name of a picture → what it shows.
        tables: name of a file → its rows; they are written after all pictures.
    """

    scenes: Mapping[str, Scene]
    tables: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class DrawingFolder:
    """A folder that holds one drawn data set and nothing else.

    Args:
        path: of the folder; it need not exist.
        contents: what is in it, for errors: `"drawn scenes"`.
        picture: regular expression of the names of its pictures.
        tables: names of its CSV files.
    """

    path: Path
    contents: str
    picture: str
    tables: tuple[str, ...]

    def fill(self, drawing: Drawing, plan: Callable[[], Plan]) -> None:
        """Draws what is missing, or everything anew where another drawing is there.

        Args:
            drawing: what is wanted.
            plan: gives its pictures and tables; only called if some are missing.

        Raises:
            InputError: the pictures would be too small, or the folder holds files
                that are not of this data set.
        """
        if drawing.image_size < LEAST_SIZE:
            raise InputError(
                f"image_size is {drawing.image_size} pixels, but textures need "
                f"{LEAST_SIZE} or more. Ask for at least {LEAST_SIZE}."
            )
        wanted = asdict(drawing)
        if _read_json(self.path / COMPLETE) == wanted:
            return
        self._refuse_foreign_files()
        (self.path / IMAGES).mkdir(parents=True, exist_ok=True)
        marker = json.dumps(wanted, indent=1).encode()
        if _read_json(self.path / STARTED) != wanted:
            self._remove_drawing()
            _write(self.path / STARTED, marker)
        self._draw(plan(), drawing.image_size)
        _write(self.path / COMPLETE, marker)

    def _draw(self, plan: Plan, image_size: int) -> None:
        with Progress("drawing scenes", len(plan.scenes), "scenes") as progress:
            for name, scene in plan.scenes.items():
                file = self.path / picture_file(name)
                if not file.exists():
                    _save(draw_scene(scene, image_size), file)
                progress.advance()
        for name, table in plan.tables.items():
            contents = table.to_csv(index=False, lineterminator="\n")
            _write(self.path / name, contents.encode())

    def _refuse_foreign_files(self) -> None:
        path = self.path
        if path.exists() and not path.is_dir():
            raise InputError(
                f"{path} is a file, but {self.contents} need a folder. Name another "
                "one."
            )
        found = [*path.glob("*"), *(path / IMAGES).glob("*")]
        names = sorted(file.relative_to(path).as_posix() for file in found)
        foreign = [name for name in names if not self._is_own(name)]
        if names and STARTED not in names and not foreign:
            foreign = names
        if foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise InputError(
                f"{path} holds files that are not of the {self.contents}: "
                f"{', '.join(foreign[:3])}{more}. Scenes are drawn into a folder of "
                "their own: name an empty one, or move these files away."
            )

    def _is_own(self, name: str) -> bool:
        if name in (IMAGES, STARTED, COMPLETE, *self.tables):
            return True
        own = rf"({IMAGES}/)?\.\S+\.partial|{IMAGES}/({self.picture})\.jpg"
        return re.fullmatch(own, name) is not None

    def _remove_drawing(self) -> None:
        for name in (COMPLETE, STARTED, *self.tables):
            (self.path / name).unlink(missing_ok=True)
        for file in (self.path / IMAGES).iterdir():
            file.unlink()


def picture_file(name: str) -> str:
    """Where a picture lies, as seen from the folder."""
    return f"{IMAGES}/{name}.jpg"


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
