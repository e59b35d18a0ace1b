"""GrabCut: milliseconds a product picture.

`python -m experiments.benchmarks.segment IMAGES_FOLDER [--count N]`: decodes pictures
first, then cuts the product out of one after another, as encoding does.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from experiments.benchmarks.rows import Row, command, measured
from PIL import Image

from twinlens.data.segmentation import GrabCut


def rows(images: Path, count: int = 150) -> Iterator[Row]:
    """Cuts out `count` pictures."""
    files = sorted(images.glob("*.jpg"))
    files = files[:: max(1, len(files) // count)][:count]
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    cut, times = GrabCut(), []
    for picture in pictures:
        start = time.perf_counter()
        cut.cut(picture)
        times.append(1000 * (time.perf_counter() - start))
    yield measured(f"GrabCut, one of {len(pictures)} pictures", times, 50.0, "ms")


if __name__ == "__main__":
    command(rows)
