"""Pictures before and after their products are cut out, for people to look at."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from twinlens.config import Config
from twinlens.data import images
from twinlens.data.segmentation import Segment
from twinlens.encoders.segmentation import segment_of
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.tables import say

SIZE = 300  # pixels, about what encoders take


def show_cut_outs(config: Config, path: Path) -> None:
    """Draws some pictures of a data set and says how many were changed.

    Raises:
        InputError: the settings cut nothing out.
    """
    wanted = config.image_encoder
    segment = segment_of(wanted.segment, wanted.segment_score, wanted.segment_classes)
    if segment is None:
        raise InputError(
            "--show draws what image_encoder.segment cuts out, but that is empty. Give "
            "a --config that sets it, or --set image_encoder.segment=grabcut."
        )
    found, tried = draw_cut_outs(Experiment(config).table, segment, path)
    say(f"{found} of {tried} pictures were changed: {path}")


def draw_cut_outs(
    table: pd.DataFrame, segment: Segment, path: Path, count: int = 12
) -> tuple[int, int]:
    """Some pictures before and after their products are cut out, into a PNG file.

    Returns:
        How many were changed, and how many were tried; broken ones are not.
    """
    first = table.drop_duplicates("image_id")
    some = first.sample(min(count, len(first)), random_state=0)
    tried = [each for row in some.itertuples() if (each := _before_after(row, segment))]
    lines = max(1, math.ceil(len(tried) / 3))
    figure = Figure((10.4, 2.1 * lines), dpi=100, layout="constrained")
    found = 0
    for number, (name, *pair) in enumerate(tried):
        changed = not np.array_equal(*pair)
        found += changed
        titles = (name[-24:], "cut out" if changed else "as it was")
        for side, (picture, title) in enumerate(zip(pair, titles, strict=True)):
            axes = figure.add_subplot(lines, 6, 2 * number + side + 1)
            axes.set(xticks=[], yticks=[])  # the frame shows where white ends
            axes.imshow(picture)
            axes.set_title(title, fontsize=8, parse_math=False)
    figure.savefig(path, format="png")
    return found, len(tried)


def _before_after(row, segment: Segment) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Name and pictures; none of a broken one."""
    try:
        contents = tf.io.read_file(row.image_path)
        before = images.decode(contents, enough=SIZE)
    except tf.errors.OpError:
        return None
    return str(row.image_id), before.numpy(), segment(before).numpy()
