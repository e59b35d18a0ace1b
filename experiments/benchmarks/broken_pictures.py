"""What broken pictures cost: 500 that a fuzzer made, among 5,000 good ones.

`python -m experiments.benchmarks.broken_pictures [--good 5000 --bad 500]`. Encodes the
good ones alone and all of them, in turn, and prints the ratio of pictures a second.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
from pathlib import Path

import numpy as np
import typer
from experiments.benchmarks.damaged import damaged, picture
from experiments.benchmarks.rounds import alternate, rate

from twinlens import encode_images, image_encoder


def draw(folder: Path, good: int, bad: int) -> tuple[list[str], list[str]]:
    """Files of good pictures, and of damaged ones."""
    random, found = np.random.default_rng(0), ([], [])
    for number in range(good + bad):
        contents, kind = picture(random), int(number >= good)
        path = folder / f"{number:05}"
        path.write_bytes(damaged(contents, random) if kind else contents)
        found[kind].append(str(path))
    return found


def main(good: int = 5000, bad: int = 500, size: int = 96, rounds: int = 3) -> None:
    """Times both jobs in turn."""
    encoder = image_encoder("mobilenet", weights="none", image_size=size)
    broken = []

    def encode(paths: list[str]) -> None:
        with tempfile.TemporaryDirectory() as cache:
            features = encode_images(encoder, {p: p for p in paths}, cache)
            broken.append(int((features.errors != "").sum()))

    with tempfile.TemporaryDirectory() as folder:
        fine, wrong = draw(Path(folder), good, bad)
        mixed = [*fine, *wrong]
        np.random.default_rng(1).shuffle(mixed)
        jobs = {"good": lambda: encode(fine), "all": lambda: encode(mixed)}
        seconds = alternate(jobs, rounds)
    rates = {
        "good": rate(seconds["good"], good),
        "all": rate(seconds["all"], len(mixed)),
    }
    print(
        f"good alone: {rates['good']:.0f} pictures/s; with {bad} damaged ones, of "
        f"which {max(broken)} cannot be read: {rates['all']:.0f}"
    )
    print(f"ratio: {rates['all'] / rates['good']:.3f}")


if __name__ == "__main__":
    typer.run(main)
