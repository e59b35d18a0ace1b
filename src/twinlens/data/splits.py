"""Train, val and test by picture: drawn from a hash, so row order never matters."""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from twinlens.errors import InputError

SPLITS = ("train", "val", "test")
_ALIASES = {
    "training": "train",
    "restval": "train",  # Karpathy's COCO: val2014 pictures that are trained on
    "valid": "val",
    "validation": "val",
    "dev": "val",
}


def standard_name(name: str) -> str:
    """Our name of a split as sources write it; an unknown one comes back tidied."""
    name = name.strip().lower()
    return _ALIASES.get(name, name)


def hash_split(
    image_ids: Iterable[str], fractions: Sequence[float] = (0.8, 0.1, 0.1)
) -> np.ndarray:
    """Splits that depend on nothing but each picture's own id.

    Args:
        image_ids: `n` picture ids.
        fractions: of train, val and test, in 0…1; they sum to 1.

    Returns:
        `(n,)` array of `"train"`, `"val"` or `"test"`. The shares are those of
        `fractions` up to chance: a handful of pictures may leave a split empty.

    Raises:
        InputError: the fractions are not three shares of one whole.
    """
    _check_fractions(fractions)
    edges = np.cumsum(fractions) / np.sum(fractions)
    places = [_hash(image_id, b"split") for image_id in image_ids]
    return np.array(SPLITS)[np.searchsorted(edges, places, side="right")]


def keep_images(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Rows of `count` pictures: chosen by hash, proportionally from every split.

    Fewer pictures are always among those of a larger `count`. Every split keeps at
    least one picture where `count` allows.

    Args:
        rows: with `image_id` and `split`.
        count: pictures to keep, at least 1.
    """
    pictures = rows.drop_duplicates("image_id")
    kept = keep_keys(pictures["image_id"], pictures["split"], count, "max_images")
    return rows[rows["image_id"].isin(kept)]


def keep_keys(
    keys: pd.Series, splits: pd.Series, count: int, setting: str
) -> pd.Series:
    """`count` of `n` keys: chosen by hash, proportionally from every split.

    Args:
        keys: `n` texts; of equal ones the first are chosen first.
        splits: `n` splits of theirs, under the same index.
        count: keys to keep, at least 1.
        setting: its name in the error.
    """
    if count < 1:
        raise InputError(f"{setting} is {count}; it must be at least 1, or not given.")
    drawn = pd.DataFrame({"hash": [_hash(key, b"sample") for key in keys]}, keys.index)
    drawn = drawn.assign(split=splits).sort_values("hash", kind="stable")
    groups = drawn.groupby("split")["hash"]
    quantile = groups.cumcount() / groups.transform("size")  # in 0…1 of its own split
    return keys[quantile.sort_values(kind="stable").index[:count]]


def _hash(image_id: str, purpose: bytes) -> float:
    """Evenly spread in 0…1, below 1; another purpose gives an unrelated number."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # 53 bits: what a float holds


def _check_fractions(fractions: Sequence[float]) -> None:
    shares = list(fractions)
    valid = len(shares) == len(SPLITS) and all(0 <= share <= 1 for share in shares)
    if not valid or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise InputError(
            f"The split fractions are {shares}; expected three numbers from 0 to 1, "
            "for train, val and test, that sum to 1, such as [0.8, 0.1, 0.1]."
        )
