"""Pictures and captions as rows of two feature arrays, and the order of an epoch."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from twinlens.data.readers.source import as_text
from twinlens.data.table import COLUMNS
from twinlens.errors import InputError
from twinlens.features import Features

STATISTICS_ROWS = 65_536  # a sample this large fixes mean and deviation to 0.4 %
STATISTICS_BLOCK = 4096  # rows read at once


@dataclass(frozen=True)
class PairFeatures:
    """The pairs of one split, on the features of all.

    Attributes:
        images: `(n, dim)` or `(n, views, dim)`, usually a memory map.
        texts: `(m, dim)`, usually a memory map.
        image_rows: `(pictures,)` the row of each picture.
        text_rows: `(captions,)` the row of each caption, grouped by picture.
        first_caption: `(pictures + 1,)`: the captions of picture `i` are
            `text_rows[first_caption[i]:first_caption[i + 1]]`.
        image_ids: `(pictures,)` the pictures' names.
        labels: `(pictures,)` numbers of their labels, for losses that want them.
    """

    images: np.ndarray
    texts: np.ndarray
    image_rows: np.ndarray
    text_rows: np.ndarray
    first_caption: np.ndarray
    image_ids: np.ndarray
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image_rows)

    @property
    def views(self) -> int:
        """Cached views a picture."""
        return self.images.shape[1] if self.images.ndim == 3 else 1

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one picture's features, without views."""
        return self.images.shape[-1:]

    @property
    def text_shape(self) -> tuple[int, ...]:
        """Of one caption's."""
        return self.texts.shape[-1:]

    @property
    def picture_of_caption(self) -> np.ndarray:
        """`(captions,)` the position of each caption's picture."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_caption))


def pair_features(
    table: pd.DataFrame, images: Features, texts: Features, label: str = ""
) -> PairFeatures:
    """The pairs of a caption table whose picture and caption both have features.

    Pictures stand in the order of the table, captions in the order of pictures.
    `label` names the attribute that labels them, if any.
    """
    image_rows = images.rows(table["image_id"].to_numpy(dtype=object))
    text_rows = texts.rows(table["caption"].to_numpy(dtype=object))
    good = (image_rows >= 0) & (text_rows >= 0)
    pictures, names = pd.factorize(table["image_id"].to_numpy(dtype=object)[good])
    order = np.argsort(pictures, kind="stable")
    first_rows = np.searchsorted(pictures[order], np.arange(len(names) + 1))
    return PairFeatures(
        images=images.values,
        texts=texts.values,
        image_rows=image_rows[good][order][first_rows[:-1]],
        text_rows=text_rows[good][order],
        first_caption=first_rows,
        image_ids=names,
        labels=label_numbers(table[good], label) if label else None,
    )


def label_numbers(table: pd.DataFrame, label: str) -> np.ndarray:
    """`(pictures,)` numbers, equal where the pictures' labels are.

    Pictures stand in the order of the table, each with the label of its first row.
    One without a label has a number of its own.

    Raises:
        InputError: the table has no such attribute.
    """
    check_label(table, label)
    labels = table.drop_duplicates("image_id")[label].map(as_text)
    numbers, names = pd.factorize(labels)
    own = len(names) + np.arange(len(numbers))
    return np.where(labels == "", own, numbers)


def check_label(table: pd.DataFrame, label: str) -> None:
    """Refuses a label that the table does not have.

    Raises:
        InputError: names the attributes that there are.
    """
    attributes = list(table.columns[len(COLUMNS) :])
    if label not in attributes:
        raise InputError(
            f"loss.positives is {label!r}, which is no attribute of this data. Its "
            f"attributes: {', '.join(attributes) or 'none'}. Name one of them."
        )


@dataclass(frozen=True)
class Epoch:
    """What one epoch shows, step after step; each array is `(steps, batch)`."""

    pictures: np.ndarray
    text_rows: np.ndarray
    views: np.ndarray

    def rows(self, pairs: PairFeatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the feature arrays, each `(steps, batch)`, and the loss' ids."""
        image_rows = pairs.image_rows[self.pictures] * pairs.views + self.views
        ids = pair_ids(pairs, self.pictures, self.text_rows)
        return image_rows, self.text_rows, ids


class Pairs(Protocol):
    """What an order is drawn from; see `PairFeatures`."""

    labels: np.ndarray | None
    text_rows: np.ndarray
    first_caption: np.ndarray
    views: int

    def __len__(self) -> int: ...

    @property
    def picture_of_caption(self) -> np.ndarray:
        """`(captions,)` the position of each caption's picture."""
        ...


def pair_ids(pairs: Pairs, pictures: np.ndarray, text_rows: np.ndarray) -> np.ndarray:
    """Picture, text and, where there are labels, label of each pair: for the loss.

    Args:
        pairs: which have the labels.
        pictures: of any shape `(…)`: their positions.
        text_rows: of the same shape.

    Returns:
        `(…, 2)` or `(…, 3)` int32.
    """
    columns = [pictures, text_rows]
    if pairs.labels is not None:
        columns.append(pairs.labels[pictures])
    return np.stack(columns, axis=-1).astype(np.int32)


def epoch_order(
    pairs: Pairs, batch_size: int, seed: int, epoch: int, phase: str = "phase1"
) -> Epoch:
    """Each picture at most once, with one of its captions and views, drawn.

    Depends on nothing but `seed` and `epoch`, so that a resumed run sees the same.
    The pictures that do not fill a batch wait for the next epoch.

    Raises:
        InputError: a batch is larger than the split.
    """
    steps = len(pairs) // batch_size
    if steps == 0:
        raise InputError(
            f"{phase}.batch_size is {batch_size}, but the training split has only "
            f"{len(pairs)} pictures. Set {phase}.batch_size to {len(pairs)} or less."
        )
    random = np.random.default_rng([seed, epoch])
    pictures = random.permutation(len(pairs))[: steps * batch_size]
    counts = np.diff(pairs.first_caption)[pictures]
    caption = pairs.first_caption[pictures] + random.integers(0, counts)
    shape = (steps, batch_size)
    return Epoch(
        pictures.reshape(shape),
        pairs.text_rows[caption].reshape(shape),
        random.integers(0, pairs.views, size=len(pictures)).reshape(shape),
    )


def statistics(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, `(dim,)` float32 each.

    Over the plain view of `rows`, or of evenly spaced ones where they are many;
    in blocks, so that a memory map is never read whole.
    """
    step = max(1, len(rows) // STATISTICS_ROWS)
    rows = np.unique(rows[::step])
    plain = features if features.ndim == 2 else features[:, 0]
    dim = plain.shape[1]
    total, squares = np.zeros(dim), np.zeros(dim)
    shift = plain[rows[0]].astype(np.float64)  # keeps the squares small and exact
    for start in range(0, len(rows), STATISTICS_BLOCK):
        block = plain[rows[start : start + STATISTICS_BLOCK]] - shift
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    return (mean + shift).astype(np.float32), np.sqrt(variance).astype(np.float32)
