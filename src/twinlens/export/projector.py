"""Pictures in TensorBoard's projector, each point a thumbnail."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from twinlens.data import images
from twinlens.errors import BrokenImageError
from twinlens.export.data_set import DataSet
from twinlens.export.folder import check_absent, new_folder
from twinlens.progress import Progress

MOST = 10_000  # points that a browser still moves fluently
SIDE = 8192  # pixels of a sprite; the projector takes no larger one
THUMBNAIL = 64  # pixels of a picture in it, at most


def write_projector(run: str | Path, folder: str | Path) -> int:
    """Writes what `tensorboard --logdir FOLDER` shows in its projector.

    Args:
        run: folder or name of a trained run.
        folder: to write: `tensors.tsv`, `metadata.tsv` (id, split, title,
            attributes), `sprite.png`, `projector_config.pbtxt`.

    Returns:
        How many pictures; of more than `MOST` a sample.

    Raises:
        InputError: the folder is there, or cannot be written.
    """
    folder = Path(folder)
    check_absent(folder)
    data = DataSet.of(run)
    items = data.items
    if len(items) > MOST:
        items = items.sample(MOST, random_state=0).sort_index()
    with new_folder(folder) as partial:
        with open(partial / "tensors.tsv", "w", encoding="utf-8") as file:
            for block in data.picture_blocks(items):
                np.savetxt(file, block, "%.7g", delimiter="\t")
        _metadata(items).to_csv(partial / "metadata.tsv", sep="\t", index=False)
        size = min(THUMBNAIL, SIDE // _columns(len(items)))
        sprite(items["image_path"].tolist(), size).save(partial / "sprite.png")
        (partial / "projector_config.pbtxt").write_text(_config(size), "utf-8")
    return len(items)


def _columns(count: int) -> int:
    """Of the square of thumbnails, which the projector fills row by row."""
    return math.ceil(math.sqrt(count))


def _metadata(items: pd.DataFrame) -> pd.DataFrame:
    """What stands beside each point, without what would break its line."""
    shown = items.drop(columns="image_path").astype(str)
    return shown.replace(r"[\t\r\n]+", " ", regex=True)


def sprite(files: list[str], size: int) -> Image.Image:
    """Thumbnails of `size` pixels a side, row by row in a square, black behind."""
    columns = _columns(len(files))
    sheet = Image.new("RGB", (columns * size, columns * size))
    with Progress("drawing thumbnails", len(files), "pictures") as progress:
        for place, file in enumerate(files):
            row, column = divmod(place, columns)
            sheet.paste(_thumbnail(file, size), (column * size, row * size))
            progress.advance()
    return sheet


def _thumbnail(file: str, size: int) -> Image.Image:
    try:
        pixels = images.load(file, size, "pad")
    except BrokenImageError:  # gone since it was encoded
        return Image.new("RGB", (size, size), "grey")
    return Image.fromarray(pixels.round().astype(np.uint8))


def _config(size: int) -> str:
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    config = ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "pictures"
    embedding.tensor_path = "tensors.tsv"
    embedding.metadata_path = "metadata.tsv"
    embedding.sprite.image_path = "sprite.png"
    embedding.sprite.single_image_dim.extend([size, size])
    return text_format.MessageToString(config)
