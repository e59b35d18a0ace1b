"""Whole jobs that are killed: what each does, how its work and its files are watched.

Started by `killed.py`, each in a process that was forked from one that has imported
all of this, so that a job takes seconds.
"""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import fine_tuned
import pyarrow.parquet as preloaded  # noqa: F401 - imported once, for all jobs
import tiny
from test_features import draw, small_encoder, small_text_encoder

from twinlens import commands, index_commands  # noqa: F401 - as above
from twinlens.config import IndexSettings
from twinlens.features import encode_images, encode_texts, pictures, texts
from twinlens.index import vector_index
from twinlens.search import (
    SearchIndex,
    add_items,
    build,
    build_index,
    open_model,
    pictures_in,
)
from twinlens.training import course, finetuning

CAPTIONS = [f"a {'red' if n % 2 else 'blue'} shape {n}" for n in range(200)]
PICTURES, ITEMS, MORE = 60, 80, 40
BATCH = 2  # pictures, texts of `encode`
CHANGES = ("os.rename", "os.remove", "os.truncate", "os.link", "os.mkdir", "os.rmdir")


# === The jobs: each again and again in `home`, with what `base` holds ===


def encode(home: Path, base: Path) -> None:
    """Fills the cache with pictures and with captions."""
    paths = {path.stem: str(path) for path in sorted((base / "small").iterdir())}
    encode_images(small_encoder(), paths, home / "cache", batch_size=BATCH)
    encode_texts(small_text_encoder(), CAPTIONS, home / "cache", batch_size=BATCH)


def phase1(home: Path, base: Path) -> None:
    """Encodes, trains, evaluates."""
    with tiny.without_xla():
        said = tiny.train(settings_of(home, base))
    print(said.out, said.err)
    sys.exit(said.code)


def phase2(home: Path, base: Path) -> None:
    """Fine-tunes the run that phase 1 left in `base`."""
    overrides = [*settings_of(home, base), *fine_tuned.EXTRA, "phase2.epochs=2"]
    overrides += [f"models={home / 'models'}", f"cache.path={base / 'features'}"]
    parts = (part for each in overrides for part in ("--set", each))
    source = base / "runs" / "tiny-phase1"
    with fine_tuned.encoders_anew():
        said = tiny.run("train", "--phase", 2, *parts, "--from", source)
    print(said.out, said.err)
    sys.exit(said.code)


def build_one(home: Path, base: Path) -> None:
    """Embeds a collection and builds its index."""
    if not (home / "index").exists():  # else it was killed when all was done
        settings = IndexSettings(fields=("image",), backend="hnsw", audit_queries=5)
        items = pictures_in(base / "items")
        build_index(model_of(home, base), items, home / "index", settings)


def add(home: Path, base: Path) -> None:
    """Adds to the index that `home` was given."""
    index = SearchIndex.load(home / "index")
    index._model = model_of(home, base)
    add_items(index, pictures_in(base / "more"))


JOBS: dict[str, Callable[[Path, Path], None]] = {
    "encode": encode,
    "phase1": phase1,
    "phase2": phase2,
    "build": build_one,
    "add": add,
}


def draw_all(base: Path) -> None:
    """The pictures of all jobs."""
    draw(base / "small", PICTURES)
    tiny.draw_data(base / "data")
    tiny.draw_data(base / "items", ITEMS)
    tiny.draw_data(base / "more", MORE)
    for path in (base / "more").glob("*.png"):
        path.rename(path.with_name(f"more{path.name}"))


def settings_of(home: Path, base: Path) -> list[str]:
    """Of the two trainings: data from `base`, everything they write in `home`."""
    return tiny.tiny_settings(base / "data" / "captions.csv", home)


def model_of(home: Path, base: Path):
    """The trained model, with a cache of its own."""
    model = open_model(base / "runs" / "tiny-phase1")
    cache = model.cache.model_copy(update={"path": str(home / "features")})
    return dataclasses.replace(model, cache=cache)


# === How they are watched ===


def start(job: str, home: Path, base: Path, kill_before: int = -1) -> None:
    """What a process does: a job, whose output goes to `said.txt`.

    Args:
        job: name of it.
        home: where it writes; `work.log` gets a letter for each piece of work,
            `files.log` one for each change of a file.
        base: what it reads.
        kill_before: the process ends itself with SIGKILL before it changes a file
            for the so manieth time.
    """
    checkpoints_at_once()
    note_work(home / "work.log")
    with open(home / "said.txt", "a", buffering=1) as said:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            watch_files(home, kill_before)
            JOBS[job](home, base)


def checkpoints_at_once() -> None:
    """Checkpoints after every epoch and step, blocks of a few items."""
    course.CHECKPOINT_EVERY_SECONDS = finetuning.CHECKPOINT_EVERY_SECONDS = 0.0
    texts.BLOCK_BATCHES = 16
    vector_index.BLOCK = build.BLOCK = 32


def note_work(path: Path) -> None:
    """Lets the jobs note pictures (p), texts (t), epochs (e) and steps (s)."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noting(letter: str, function: Callable) -> Callable:
        def noted(*arguments, **more):
            found = function(*arguments, **more)
            os.write(log, letter.encode())
            return found

        return noted

    forward = texts._forward
    texts._forward = lambda encoder: noting("t", forward(encoder))
    pictures._encode_views = noting("p", pictures._encode_views)
    trainer, tuner = course.HeadTrainer, finetuning.FineTuning
    trainer.run_epoch = noting("e", trainer.run_epoch)
    tuner._one_step = noting("s", tuner._one_step)


def watch_files(home: Path, kill_before: int) -> None:
    """Counts the changes of files in `home`, and ends the process at one of them."""
    log = os.open(home / "files.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    inside, count = str(home), 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        changes = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if not changes or not str(arguments[0]).startswith(inside):
            return
        if count == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(log, b"f")

    sys.addaudithook(watch)


WRITING = os.O_WRONLY | os.O_RDWR
