"""Readers: each for the files of a data set as its publisher ships them.

A further reader is a function `(path, options) -> Source` and a line in `READERS`.
"""

from collections.abc import Callable
from pathlib import Path

from twinlens.data.readers.coco import coco
from twinlens.data.readers.fashion import fashion
from twinlens.data.readers.flickr import flickr8k, flickr30k
from twinlens.data.readers.folder import folder
from twinlens.data.readers.karpathy import karpathy
from twinlens.data.readers.plain import table
from twinlens.data.readers.shopee import shopee
from twinlens.data.readers.source import ReaderOptions, Source


def scenes(path: Path, options: ReaderOptions) -> Source:
    """The built-in rendered scenes, drawn into `path` on first use."""
    from twinlens.data.scenes import read_scenes  # late: only this reader draws

    options.accept("scenes")
    return Source(read_scenes(path))


READERS: dict[str, Callable[[Path, ReaderOptions], Source]] = {
    "coco": coco,
    "karpathy": karpathy,
    "flickr8k": flickr8k,
    "flickr30k": flickr30k,
    "fashion": fashion,
    "shopee": shopee,
    "table": table,
    "folder": folder,
    "scenes": scenes,
}
