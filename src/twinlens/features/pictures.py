"""Pictures to cached features: decoded ahead in threads, each picture once."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache as cache_once
from pathlib import Path

import numpy as np
import tensorflow as tf

from twinlens.data import images
from twinlens.encoders.base import ImageEncoder
from twinlens.encoders.forward import frozen
from twinlens.errors import BrokenImageError
from twinlens.features.contents import content_digests
from twinlens.features.store import Features, Job, complete
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
        encode=_block_encoder(encoder, files, contents, (views, flip), batch_size),
        what="encoding pictures",
        unit="pictures",
    )
    return complete(cache, job)


def _block_encoder(
    encoder: ImageEncoder,
    files: list[str],
    contents: list[str],
    augmentation: tuple[int, bool],
    batch_size: int,
) -> Callable[[int, int], tuple[np.ndarray, dict[int, str]]]:
    shape = tf.TensorSpec([None, *encoder.model.input_shape[1:]])
    graph = cache_once(lambda: frozen(encoder.model, shape, encoder.dtype))  # seconds
    views, flip = augmentation
    pixels_of = _pixel_loader(encoder, views, flip)

    def load(row: int) -> np.ndarray | str:
        try:
            return pixels_of(files[row], contents[row])
        except BrokenImageError as error:
            return str(error)

    def encode(first: int, last: int) -> tuple[np.ndarray, dict[int, str]]:
        forward, features, broken = graph(), [], {}
        nothing = np.zeros((views, *encoder.model.input_shape[1:]), np.float32)
        for rows, loaded in _batches_ahead(load, first, last, batch_size):
            bad = {
                r: p for r, p in zip(rows, loaded, strict=True) if isinstance(p, str)
            }
            good = [nothing if isinstance(p, str) else p for p in loaded]
            features.append(_encode_views(forward, np.stack(good)))
            broken |= bad
        return np.concatenate(features), broken

    return encode


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
    load: Callable, first: int, last: int, batch_size: int
) -> Iterator[tuple[range, list]]:
    """Rows and what `load` made of them, batch by batch, a few batches ahead."""
    starts = range(first, last, batch_size)
    batches = [range(start, min(start + batch_size, last)) for start in starts]
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
