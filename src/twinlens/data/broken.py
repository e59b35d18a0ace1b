"""Which pictures of a table cannot be read."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from twinlens.data import images
from twinlens.errors import BrokenImageError
from twinlens.progress import Progress

READERS = 2  # threads; decoding is work for the processor
TRIAL_SIZE = 32  # pixels; the whole file is decoded whatever the size


def find_broken(table: pd.DataFrame) -> pd.DataFrame:
    """Decodes every picture; returns `image_id`, `reason` of those that fail."""
    first = table.drop_duplicates("image_id")
    broken = []
    with (
        ThreadPoolExecutor(READERS) as pool,
        Progress("reading pictures", len(first), "pictures") as progress,
    ):
        reasons = pool.map(_reason, first["image_path"])
        for image_id, reason in zip(first["image_id"], reasons, strict=True):
            progress.advance()
            if reason:
                broken.append((image_id, reason))
    return pd.DataFrame(broken, columns=["image_id", "reason"])


def _reason(path: str) -> str:
    try:
        images.load(path, TRIAL_SIZE)
    except BrokenImageError as error:
        return str(error)
    return ""
