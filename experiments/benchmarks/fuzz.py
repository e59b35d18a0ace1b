"""Atheris on pictures and on caption files, guided by what the code does with them.

`pip install "twinlens[fuzz]"`, then `python -m experiments.benchmarks.fuzz pictures`
or `… fuzz captions`, with `--seconds 600`. Whatever is no error of twinlens ends it,
and the file that did it is left in the folder of `--found`.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import atheris
import numpy as np
import typer
from experiments.benchmarks.damaged import damaged, picture

with atheris.instrument_imports(include=["twinlens.data"]):
    from twinlens.data import images
    from twinlens.data.table import load

from twinlens.errors import InputError

SEEDS = {  # a file of each reader: its name, and something to begin with
    "table": (
        ("captions.csv", b"image,caption,split\na.jpg,a dog,train\n"),
        ("captions.jsonl", b'{"image": "a.jpg", "caption": "a dog"}\n'),
        ("captions.parquet", b"PAR1"),
    ),
    "coco": (
        (
            "captions.json",
            b'{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": '
            b'[{"image_id": 1, "id": 2, "caption": "a dog"}]}',
        ),
    ),
    "karpathy": (
        (
            "dataset.json",
            b'{"images": [{"filename": "a.jpg", "split": "train", "imgid": 1, '
            b'"sentences": [{"raw": "a dog"}]}]}',
        ),
    ),
    "flickr8k": (("captions.txt", b"image,caption\na.jpg,a dog\n"),),
    "flickr30k": (
        ("results.csv", b"image_name| comment_number| comment\na.jpg| 0| x"),
    ),
    "shopee": (("train.csv", b"posting_id,image,image_phash,title,label_group\n"),),
    "fashion": (("styles.csv", b"id,gender,productDisplayName\n1,Men,a shirt\n"),),
}
FILES = [(reader, *file) for reader, files in SEEDS.items() for file in files]


def try_picture(contents: bytes) -> None:
    """Decodes a file; a broken picture is no finding."""
    try:
        pixels = images.load(contents, 16)
    except InputError:
        return
    if pixels.shape != (16, 16, 3) or not np.isfinite(pixels).all():
        raise RuntimeError(f"a picture became {pixels.shape}")


def try_captions(contents: bytes) -> None:
    """Reads a file whose first byte says of which reader it is."""
    reader, name, _ = FILES[contents[0] % len(FILES)] if contents else FILES[0]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images").mkdir()
        (Path(folder) / "images" / "a.jpg").touch()
        (Path(folder) / name).write_bytes(contents[1:])
        try:
            load(reader, folder)
        except InputError:
            return


def write_seeds(what: str, folder: Path) -> None:
    """What the fuzzer begins with."""
    random = np.random.default_rng(0)
    if what == "pictures":
        found = [picture(random, 12) for _ in range(20)]
        found += [damaged(each, random) for each in found]
    else:
        found = [bytes([number]) + file[2] for number, file in enumerate(FILES)]
    for number, contents in enumerate(found):
        (folder / f"{number:03}").write_bytes(contents)


def main(what: str, seconds: int = 600, found: str = ".") -> None:
    """Fuzzes `pictures` or `captions` for some time."""
    tries = {"pictures": try_picture, "captions": try_captions}
    with tempfile.TemporaryDirectory() as corpus:
        write_seeds(what, Path(corpus))
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=6000"]
        options += [f"-artifact_prefix={found}/", "-print_final_stats=1", "-timeout=60"]
        atheris.Setup([sys.argv[0], *options, corpus], tries[what])
        atheris.Fuzz()


if __name__ == "__main__":
    typer.run(main)
