"""Pictures to cached features: decoded ahead in threads, each picture once."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from twinlens.data import images
from twinlens.encoders.base import ImageEncoder
from twinlens.encoders.forward import frozen
from twinlens.errors import BrokenImageError
from twinlens.features.contents import content_digests
from twinlens.features.store import Encode, Encoded, Features, Job, Piece, complete
from twinlens.features.texts import refuse_trainable
from twinlens.writing import writable

DECODERS = 2  # threads; a picture decodes in a tenth of the time it encodes
BATCHES_AHEAD = 2  # decoded and waiting, so that the network never does
BLOCK_BATCHES = 8  # batches between two entries of the journal: some ten seconds


def encode_images(
    encoder: ImageEncoder,
    paths: Mapping[str, str],
    cache: str | Path = "data/features",
    dtype: str = "float32",
    views: int = 1,
    flip: bool = True,
    batch_size: int = 32,
    encode: Encode | None = None,
) -> Features:
    """Features of pictures, from the cache or encoded now.

    Args:
        encoder: a frozen picture encoder.
        paths: file of each picture, by picture id. The order does not matter.
        cache: folder of all caches.
        dtype: of the stored features, `"float32"` or `"float16"`.
        views: views a picture; above 1, `values` is `(n, views, dim)`: the plain
            picture, then augmented ones, always the same for the same bytes.
        flip: whether augmented views may be mirrored; not where captions say left
            and right.
        batch_size: pictures a forward pass.
        encode: does the work of `PictureBlocks` elsewhere; by default it is done here.

    Returns:
        `Features` whose ids are the picture ids, with the reasons of broken ones. Of
        an encoder with pooling `"tokens"` a view is `(places, dim)`.

    Raises:
        ValueError: the encoder has trainable weights.
        InputError: the cache cannot be written.
    """
    refuse_trainable(encoder.model)
    cache = Path(cache)
    with writable(cache):
        cache.mkdir(parents=True, exist_ok=True)
    ids = sorted(paths)
    files = [paths[name] for name in ids]
    contents = content_digests(files, cache / "contents.sqlite")
    shape = encoder.feature_shape
    job = Job(
        key={
            "kind": "image",
            **encoder.description,
            "preprocessing": images.PREPROCESSING_VERSION,
            "views": views,
            "flip": flip and views > 1,
            "batch_size": batch_size,
        },
        ids=np.array(ids, dtype=object),
        contents=np.array(contents, dtype=object),
        shape=shape if views == 1 else (views, *shape),
        dtype=dtype,
        block_size=BLOCK_BATCHES * batch_size,
        piece=lambda *rows: {
            "files": files[slice(*rows)],
            "contents": contents[slice(*rows)],
        },
        encode=encode or partial(map, PictureBlocks(encoder, views, flip, batch_size)),
        what="encoding pictures",
        unit="pictures",
    )
    return complete(cache, job)


class PictureBlocks:
    """Encodes pictures, a block of them a call, decoded a few batches ahead.

    Args:
        encoder, views, flip, batch_size: as for `encode_images`.

    Call arguments:
        piece: `files` and `contents`, paths and digests of the pictures.

    Returns:
        Features, and the reasons of broken pictures by their place in the block.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        views: int = 1,
        flip: bool = True,
        batch_size: int = 32,
    ) -> None:
        self._encoder, self._batch_size = encoder, batch_size
        self._nothing = np.zeros((views, *encoder.model.input_shape[1:]), np.float32)
        self._pixels_of = _pixel_loader(encoder, views, flip)

    @cached_property
    def _forward(self) -> Callable:  # seconds, for what may be cached already
        model = self._encoder.model
        shape = tf.TensorSpec([None, *model.input_shape[1:]])
        return frozen(model, shape, self._encoder.dtype)

    def __call__(self, piece: Piece) -> Encoded:
        """Encodes a block; see the class."""
        files, contents = piece["files"], piece["contents"]

        def load(place: int) -> np.ndarray | str:
            try:
                return self._pixels_of(files[place], contents[place])
            except BrokenImageError as error:
                return str(error)

        features, broken = [], {}
        for places, loaded in _batches_ahead(load, len(files), self._batch_size):
            found = dict(zip(places, loaded, strict=True))
            bad = {p: reason for p, reason in found.items() if isinstance(reason, str)}
            good = [self._nothing if p in bad else found[p] for p in places]
            features.append(_encode_views(self._forward, np.stack(good)))
            broken |= bad
        return np.concatenate(features), broken


def _encode_views(forward: Callable, pixels: np.ndarray) -> np.ndarray:
    """`(n, views, size, size, 3)` to `(n, dim)`, or `(n, views, dim)` above one."""
    views = [
        forward(tf.constant(pixels[:, view])).numpy() for view in range(pixels.shape[1])
    ]
    return views[0] if len(views) == 1 else np.stack(views, axis=1)


def _pixel_loader(encoder: ImageEncoder, views: int, flip: bool) -> Callable:
    """`(path, content)` → `(views, size, size, 3)`; augmented by the content."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decoded(contents):
        return images.decode(contents, segment=encoder.segment)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([2], tf.int32),
        ]
    )
    def augmented(picture, seed):
        image = images.augment(picture, seed, flip=flip)
        return images.fit(image, encoder.image_size, encoder.resize)

    def load(path: str, content: str) -> np.ndarray:
        plain = encoder.load(path)
        if views == 1:
            return plain[None]
        picture = decoded(tf.constant(Path(path).read_bytes()))  # once for all views
        start = int(content[:7] or "0", 16)  # 28 bits: fits a positive int32
        others = [augmented(picture, [start, view]).numpy() for view in range(1, views)]
        return np.stack([plain, *others])

    return load


def _batches_ahead(
    load: Callable, count: int, batch_size: int
) -> Iterator[tuple[range, list]]:
    """Places and what `load` made of them, batch by batch, a few batches ahead."""
    starts = range(0, count, batch_size)
    batches = [range(start, min(start + batch_size, count)) for start in starts]
    waiting: deque[tuple[range, list[Future]]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for rows in batches:
            waiting.append((rows, [pool.submit(load, row) for row in rows]))
            if len(waiting) > BATCHES_AHEAD:
                yield _collected(waiting.popleft())
        while waiting:
            yield _collected(waiting.popleft())


def _collected(batch: tuple[range, list[Future]]) -> tuple[range, list]:
    rows, futures = batch
    return rows, [future.result() for future in futures]
