"""GrabCut: milliseconds a product picture.

`python -m experiments.benchmarks.segment IMAGES_FOLDER [--count N]`: decodes pictures
first, then cuts the product out of one after another, as encoding does.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import time
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from twinlens.data.segmentation import GrabCut


def main(images: Path, count: int = 150) -> None:
    """Prints the mean and the 95th percentile."""
    files = sorted(images.glob("*.jpg"))
    files = files[:: max(1, len(files) // count)][:count]
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    cut, seconds = GrabCut(), []
    for picture in pictures:
        start = time.perf_counter()
        cut.cut(picture)
        seconds.append(time.perf_counter() - start)
    mean, high = 1000 * np.mean(seconds), 1000 * np.quantile(seconds, 0.95)
    print(f"{len(pictures)} pictures: {mean:.0f} ms, 95 % under {high:.0f} ms")


if __name__ == "__main__":
    typer.run(main)
