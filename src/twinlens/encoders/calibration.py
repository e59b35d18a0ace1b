"""Batch normalisation of random weights, set to the statistics of some pictures."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable

import keras
import numpy as np

from twinlens.encoders.base import normalisations
from twinlens.errors import BrokenImageError


def calibrate(model: keras.Model, files: Iterable[str], load: Callable) -> str:
    """Sets the statistics of batch normalisation; returns a digest of the pictures.

    Random weights come with mean 0 and variance 1 everywhere, so that training, which
    normalises by batches, would start from quite another function.

    Args:
        model: `(n, size, size, 3)` pixels → features.
        files: of pictures, all in one batch; broken ones are left out.
        load: a file → `(size, size, 3)` pixels.

    Returns:
        32 hex digits; empty where there is nothing to set, or nothing to look at.
    """
    pixels, digest = [], hashlib.blake2b(digest_size=16)
    for file in files:
        with contextlib.suppress(BrokenImageError):  # counted where it is encoded
            pixels.append(load(file))
            digest.update(pixels[-1].tobytes())
    found = normalisations(model)
    if not pixels or not found:
        return ""
    momenta = [layer.momentum for layer in found]
    for layer in found:
        layer.momentum = 0.0  # forget what was before
    model(np.stack(pixels), training=True)
    for layer, momentum in zip(found, momenta, strict=True):
        layer.momentum = momentum
    return digest.hexdigest()
