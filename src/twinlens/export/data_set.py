"""Embeddings of a run's whole data set, as a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from twinlens.composed_experiment import ComposedExperiment, open_experiment
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.export.folder import check_absent, new_file
from twinlens.features import Features
from twinlens.progress import Progress
from twinlens.runs import open_run
from twinlens.search import SearchModel, items_of, items_of_triplets, open_model

BLOCK = 16_384  # rows embedded at once: 16 MB of 256 numbers
COLUMNS = ("kind", "id", "text", "split")
PICTURE, TEXT = "picture", "text"


@dataclass(frozen=True)
class DataSet:
    """Pictures and texts of a run, and where their features are.

    Attributes:
        model: of the run.
        items: pictures that can be read: `id`, `image_path`, `title`, `split` and
            attributes.
        texts: `id` of the picture, `text`, `split`; of triplets the target's id and
            the wish.
    """

    model: SearchModel
    items: pd.DataFrame
    texts: pd.DataFrame
    _images: Features
    _texts: Features

    @classmethod
    def of(cls, run: str | Path) -> "DataSet":
        """The data set of a trained run; features come from the cache or are made.

        Raises:
            InputError: no such run, or its data cannot be read.
        """
        opened = open_run(run)
        model, experiment = open_model(opened), open_experiment(opened.config)
        items = _items(experiment)
        images = model.picture_features(items)
        items = items[images.rows(items["id"].to_numpy(object)) >= 0]
        table = experiment.table[["image_id", "caption", "split"]].drop_duplicates()
        texts = table.set_axis(["id", "text", "split"], axis=1)
        texts = texts[texts["text"] != ""]
        features = model.title_features(texts["text"])
        return cls(
            model,
            items.reset_index(drop=True),
            texts.reset_index(drop=True),
            images,
            features,
        )

    @property
    def rows(self) -> pd.DataFrame:
        """One row an embedding, of `blocks`: `COLUMNS`; pictures first."""
        pictures = self.items[["id", "split"]].assign(kind=PICTURE, text="")
        both = [pictures, self.texts.assign(kind=TEXT)]
        return pd.concat(both, ignore_index=True)[list(COLUMNS)]

    def blocks(self) -> Iterator[np.ndarray]:
        """`(m, embedding_dim)` float32 each, pictures first."""
        yield from self.picture_blocks()
        rows = self._texts.rows(self.texts["text"].to_numpy(object))
        for start in range(0, len(rows), BLOCK):
            yield self._embed_texts(rows[start : start + BLOCK])

    def picture_blocks(self, items: pd.DataFrame | None = None) -> Iterator[np.ndarray]:
        """`(m, embedding_dim)` float32 each; of all items by default."""
        ids = (self.items if items is None else items)["id"].to_numpy(object)
        rows, model = self._images.rows(ids), self.model
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            yield model.embed_image_features(
                self._images.values, some, model.average_views
            )

    def _embed_texts(self, rows: np.ndarray) -> np.ndarray:
        """With a fusion texts are queries without a picture, as in search."""
        if not self.model.fusion:
            return self.model.embed_text_features(self._texts.values, rows)
        return self.model.composer(None, self._texts.values[rows].astype(np.float32))


def _items(experiment: Experiment) -> pd.DataFrame:
    if isinstance(experiment, ComposedExperiment):
        return items_of_triplets(experiment.data)
    return items_of(experiment.table)


def write_embeddings(run: str | Path, path: str | Path) -> pd.DataFrame:
    """Writes the embeddings of all pictures and texts of a run's data set.

    Args:
        run: folder or name of a trained run.
        path: to write. `.parquet`: a row an embedding, `kind` ("picture", "text"),
            `id` of the picture, `text`, `split`, `embedding`. `.npy`: a float32 array
            `(n, embedding_dim)`, and the other columns in `NAME.rows.parquet` beside.

    Returns:
        The rows, without the embeddings.

    Raises:
        InputError: the file is there, has another ending, or cannot be written.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise InputError(
            f"Embeddings are written as {' or '.join(WRITERS)}, but the file is "
            f"called {path.name!r}."
        )
    check_absent(path)
    data = DataSet.of(run)
    WRITERS[path.suffix](data, path)
    return data.rows


def _write_parquet(data: DataSet, path: Path) -> None:
    rows, dim = data.rows, data.model.embedding_dim
    schema = pa.schema(
        [*((name, pa.string()) for name in COLUMNS)]
        + [("embedding", pa.list_(pa.float32(), dim))]
    )
    with new_file(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for start, block in _with_progress(data, len(rows)):
            some = rows.iloc[start : start + len(block)]
            columns = [pa.array(some[name], pa.string()) for name in COLUMNS]
            flat = pa.array(block.ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, dim))
            writer.write_table(pa.table(columns, schema))


def _write_npy(data: DataSet, path: Path) -> None:
    rows, dim = data.rows, data.model.embedding_dim
    beside = path.with_suffix(".rows.parquet")
    with new_file(beside) as partial_rows, new_file(path) as partial:
        rows.to_parquet(partial_rows, index=False)
        array = np.lib.format.open_memmap(partial, "w+", np.float32, (len(rows), dim))
        for start, block in _with_progress(data, len(rows)):
            array[start : start + len(block)] = block
        array.flush()


WRITERS = {".parquet": _write_parquet, ".npy": _write_npy}


def _with_progress(data: DataSet, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks with the number of their first row."""
    start = 0
    with Progress("embedding the data set", count, "embeddings") as progress:
        for block in data.blocks():
            yield start, block
            start += len(block)
            progress.advance(len(block))
