"""A data set and settings so small that a whole job takes seconds, and one job."""

import contextlib
import csv
import functools
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw

from twinlens import cli
from twinlens.encoders import image_encoder, text_encoder

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220)}
SHAPES = ("disc", "square")
SPLITS = ("train", "train", "val", "test")  # of each four pictures


# === The commands, without building an encoder or drawing figures each time ===

_image_encoder = functools.cache(image_encoder)
_text_encoder = functools.cache(text_encoder)


def run(*arguments: object, report: bool = False) -> SimpleNamespace:
    """A command as its user sees it: exit status, standard output, errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        patch.setattr(sys, "argv", ["twinlens", *map(str, arguments)])
        patch.setattr("twinlens.experiment.image_encoder", _image_encoder)
        patch.setattr("twinlens.experiment.text_encoder", _text_encoder_of)
        if not report:
            patch.setattr("twinlens.report.write_report", _no_report)
        cli.main()
    code = stop.value.code or 0
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def train(settings: list[str], *more: object, report: bool = False) -> SimpleNamespace:
    """`train --phase 1` with overrides."""
    overrides = (part for each in settings for part in ("--set", each))
    return run("train", "--phase", 1, *overrides, *more, report=report)


def _text_encoder_of(corpus, **settings):
    return _text_encoder(corpus=tuple(corpus), **settings)


def _no_report(run, *_):
    return run.folder / "report.html"


@contextlib.contextmanager
def without_xla():
    """Inside, a training is ready two seconds sooner."""
    import tensorflow as tf

    function = tf.function

    def plain(*arguments, jit_compile=None, **more):
        return function(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "function", plain)
        yield


# === One training, shared by all tests ===


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with 24 drawn pictures and one that is broken."""
    folder = tmp_path_factory.mktemp("home")
    data = draw_data(folder / "data")
    whole = (folder / "data" / "00.png").read_bytes()
    (folder / "data" / "broken.png").write_bytes(whole[: len(whole) // 2])
    with open(data, "a") as file:
        file.write("broken.png,a broken picture,train,red,disc\n")
    settings = [*tiny_settings(data, folder), "data.max_broken_fraction=0.1"]
    return SimpleNamespace(folder=folder, data=data, settings=settings)


@pytest.fixture(scope="session")
def trained(home):
    """The folder of a run, what the training said, and its evaluation."""
    said = train(home.settings, report=True)
    assert said.code == 0, said.err
    folder = home.folder / "runs" / "tiny-phase1"
    evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return SimpleNamespace(folder=folder, said=said, evaluation=evaluation)


# === The data ===


def draw_data(folder: Path, pictures: int = 24) -> Path:
    """Draws pictures and writes `captions.csv`; returns its path.

    Half of the pictures are `train`, a quarter each `val` and `test`; each has two
    captions and the attributes `colour` and `shape`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(pictures):
        colour = list(COLOURS)[number % 3]
        shape = SHAPES[number // 3 % 2]
        draw_picture(folder / f"{number:02}.png", COLOURS[colour], shape, number)
        for caption in (f"a {colour} {shape}", f"{shape} number {number} is {colour}"):
            split = SPLITS[number % 4]
            rows.append((f"{number:02}.png", caption, split, colour, shape))
    with open(folder / "captions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image_path", "caption", "split", "colour", "shape"))
        writer.writerows(rows)
    return folder / "captions.csv"


def draw_picture(path: Path, colour: tuple, shape: str, number: int) -> None:
    """One shape on grey; its place depends on its number."""
    image = Image.new("RGB", (80, 80), (128, 128, 128))
    left, top = 4 + 7 * (number % 5), 4 + 7 * (number // 5)
    box = (left, top, left + 35, top + 35)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "disc" else draw.rectangle)(box, fill=colour)
    image.save(path)


def tiny_settings(data: Path, folder: Path) -> list[str]:
    """Overrides: this data, the smallest encoders and heads, all files in `folder`."""
    return [
        "name=tiny",
        f"runs={folder / 'runs'}",
        f"cache.path={folder / 'features'}",
        "data.reader=table",
        f"data.path={data}",
        "image_encoder.name=mobilenet",  # the quickest to build
        "image_encoder.layer=conv_pw_2_relu",
        "image_encoder.image_size=32",
        "text_encoder.num_layers=1",
        "text_encoder.num_heads=1",
        "text_encoder.hidden_dim=8",
        "text_encoder.vocabulary_size=100",
        "head.embedding_dim=8",
        "head.hidden_dim=16",
        "head.dropout=0.3",
        "phase1.ema_decay=0.9",
        "phase1.batch_size=4",
        "phase1.epochs=6",
        "evaluation.bootstrap_samples=100",
    ]
