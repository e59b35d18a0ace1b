"""Triplets as rows of two feature arrays, and the order of an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from twinlens.errors import InputError
from twinlens.features import Features

STATISTICS_TOKENS = 65_536  # a sample this large fixes mean and deviation to 0.4 %
PICTURE_STEPS = 64  # widths that a batch's pictures are filled up to: few compilations


@dataclass(frozen=True)
class TripletFeatures:
    """The triplets of one split and the pictures that they are searched among.

    Attributes:
        images: `(n, places, dim)` or `(n, dim)`, with `(n, views, …)` of several views.
        texts: `(m, length, dim)` or `(m, dim)`.
        image_shape: of one picture's features, without views.
        text_shape: of one wish's.
        references: `(triplets,)` row of each reference's picture.
        targets: `(triplets,)` row of each target's.
        text_rows: `(triplets,)` row of each wish.
        groups: `(triplets,)` numbers; equal ones may stand together in a batch.
        table: the triplets, in this order.
        image_ids: `(n,)` names of the rows of `images`.
        galleries: by category, the rows of `images` that its queries search.
        keeps_reference: whether a query's reference is among its answers.
    """

    images: np.ndarray
    texts: np.ndarray
    image_shape: tuple[int, ...]
    text_shape: tuple[int, ...]
    references: np.ndarray
    targets: np.ndarray
    text_rows: np.ndarray
    groups: np.ndarray
    table: pd.DataFrame
    image_ids: np.ndarray
    galleries: Mapping[str, np.ndarray]
    keeps_reference: bool = True

    def __len__(self) -> int:
        return len(self.references)

    @property
    def views(self) -> int:
        """Cached views a picture."""
        return (
            self.images.shape[1] if self.images.ndim > 1 + len(self.image_shape) else 1
        )

    @property
    def plain_images(self) -> np.ndarray:
        """`(n, *image_shape)`: the view that is not augmented."""
        return self.images if self.views == 1 else self.images[:, 0]


def triplet_features(
    table: pd.DataFrame,
    images: Features,
    texts: Features,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    galleries: Mapping[str, np.ndarray],
    together: str = "",
    keeps_reference: bool = True,
) -> TripletFeatures:
    """The triplets whose pictures and wish have features.

    Args:
        table: triplets of one split.
        images: features of pictures.
        texts: features of wishes.
        shapes: of one picture's and of one wish's features.
        galleries: by category, ids of pictures; broken ones are left out.
        together: attribute of the table that groups triplets, if any.
        keeps_reference: whether a query's reference is among its answers.
    """
    columns = {
        "references": images.rows(table["reference_id"].to_numpy(dtype=object)),
        "targets": images.rows(table["target_id"].to_numpy(dtype=object)),
        "text_rows": texts.rows(table["wish"].to_numpy(dtype=object)),
    }
    good = np.all([rows >= 0 for rows in columns.values()], axis=0)
    searched = {}
    for category, ids in galleries.items():
        rows = images.rows(np.asarray(ids, dtype=object))
        searched[category] = rows[rows >= 0]
    kept = table[good].reset_index(drop=True)
    return TripletFeatures(
        images.values,
        texts.values,
        *shapes,
        **{name: rows[good] for name, rows in columns.items()},
        groups=group_numbers(kept, together),
        table=kept,
        image_ids=images.ids,
        galleries=searched,
        keeps_reference=keeps_reference,
    )


def group_numbers(table: pd.DataFrame, together: str) -> np.ndarray:
    """`(triplets,)` numbers, equal where an attribute is; all different without one.

    A triplet whose attribute is missing stands alone.

    Raises:
        InputError: the table has no such attribute.
    """
    if not together:
        return np.arange(len(table))
    if together not in table:
        raise InputError(
            f"fusion.together is {together!r}, which is no column of these triplets. "
            f"There are {', '.join(table.columns)}."
        )
    numbers = pd.factorize(table[together])[0]
    return np.where(numbers < 0, len(table) + np.arange(len(table)), numbers)


@dataclass(frozen=True)
class TripletEpoch:
    """What one epoch shows, step after step.

    Attributes:
        pictures: `(steps, pictures)` rows of each step's pictures, references and
            targets together; filled up with the first one.
        triplets: `(steps, batch)` positions of the triplets.
        views: `(steps, pictures)` which view of each.
    """

    pictures: np.ndarray
    triplets: np.ndarray
    views: np.ndarray

    def rows(self, triplets: TripletFeatures) -> tuple:
        """Rows of the feature arrays, and ids as `ComposedHeads` wants them."""
        images = self.pictures * triplets.views + self.views
        return images, triplets.text_rows[self.triplets], self.ids(triplets)

    def ids(self, triplets: "Triplets") -> dict[str, np.ndarray]:
        """`pictures` `(steps, pictures)`, `triplets` `(steps, batch, 2)`."""
        ends = (triplets.references, triplets.targets)
        each = np.stack([rows[self.triplets] for rows in ends], axis=-1)
        return {
            "pictures": self.pictures.astype(np.int32),
            "triplets": each.astype(np.int32),
        }


class Triplets(Protocol):
    """What an order is drawn from; see `TripletFeatures`."""

    references: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    views: int

    def __len__(self) -> int: ...


def triplet_order(
    triplets: Triplets,
    batch_size: int,
    seed: int,
    epoch: int,
    together: int = 1,
    phase: str = "phase1",
) -> TripletEpoch:
    """Each triplet at most once; up to `together` of a group stand side by side.

    Depends on nothing but `seed` and `epoch`. The triplets that do not fill a batch
    wait for the next epoch.

    Raises:
        InputError: a batch is larger than the split.
    """
    steps = len(triplets) // batch_size
    if steps == 0:
        raise InputError(
            f"{phase}.batch_size is {batch_size}, but the training split has only "
            f"{len(triplets)} triplets. Set {phase}.batch_size to {len(triplets)} or "
            "less."
        )
    random = np.random.default_rng([seed, epoch])
    order = _grouped(
        random.permutation(len(triplets)), triplets.groups, together, random
    )
    order = order[: steps * batch_size].reshape(steps, batch_size)
    shown = [
        np.unique([triplets.references[each], triplets.targets[each]]) for each in order
    ]
    most = max(map(len, shown))
    step = max(1, 2 * batch_size // PICTURE_STEPS)
    size = min(-(-most // step) * step, 2 * batch_size)
    pictures = np.stack(
        [np.pad(x, (0, size - len(x)), constant_values=x[0]) for x in shown]
    )
    views = random.integers(0, triplets.views, size=pictures.shape)
    return TripletEpoch(pictures, order, views)


def _grouped(
    order: np.ndarray, groups: np.ndarray, together: int, random: np.random.Generator
) -> np.ndarray:
    """Chunks of up to `together` of a group, themselves in random order."""
    if together == 1:
        return order
    order = order[np.argsort(groups[order], kind="stable")]
    sizes = np.unique(groups[order], return_counts=True)[1]
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts = place % together == 0
    chunk = np.cumsum(starts) - 1
    return order[np.argsort(random.permutation(chunk[-1] + 1)[chunk], kind="stable")]


def token_statistics(
    features: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each number over tokens, `(dim,)` float32 each.

    Args:
        features: `(n, tokens, dim)`, zeros behind a text's end; or `(n, dim)`.
        rows: which; evenly spaced ones where they are many.
    """
    tokens = int(np.prod(features.shape[1:-1]))
    rows = np.unique(rows)
    rows = rows[:: max(1, len(rows) * tokens // STATISTICS_TOKENS)]
    found = features[rows].reshape(-1, features.shape[-1]).astype(np.float64)
    found = found[found.any(axis=1)]
    return found.mean(axis=0).astype(np.float32), found.std(axis=0).astype(np.float32)
