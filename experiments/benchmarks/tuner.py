"""Phase 2 of the benchmarks: InceptionV3 at 299 pixels and a BERT of six layers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from experiments.benchmarks.step_sizes import (
    LAYERS,
    LENGTH,
    NUM_HEADS,
    RATE,
    SIZE,
    VOCABULARY,
    WIDTH,
)

from twinlens import image_encoder, text_encoder
from twinlens.config import Config, config_from
from twinlens.encoders.random_text import RandomSize
from twinlens.model import DualEncoder
from twinlens.training.build import build_heads, build_loss
from twinlens.training.pairs import epoch_order
from twinlens.training.raw import Batch, RawBatches, RawPairs
from twinlens.training.replicas import Replicas
from twinlens.training.set_up import build_tuner

TEXT = RandomSize(VOCABULARY, LAYERS, NUM_HEADS, WIDTH, dropout=0.1)
CAPTION = " ".join(["a"] * (LENGTH - 2))


class Ours:
    """Our step, made once for each dtype."""

    def __init__(self, dtype: str) -> None:
        plain = Config().model_dump()
        plain["phase2"] |= {"dtype": dtype, "image_learning_rate": RATE}
        self.config = config_from(plain, "benchmark")
        self.images = image_encoder(weights="none", image_size=SIZE)
        self.texts = text_encoder(weights="none", size=TEXT, corpus=[CAPTION])
        loss = build_loss(self.config.loss)
        dims = (self.images.feature_dim, self.texts.feature_dim)
        heads = build_heads(*dims, self.config.head, loss, seed=0)
        model = DualEncoder(self.images.model, self.texts.model, heads)
        encoders = [  # as if they were pretrained: batch normalisation is frozen
            dataclasses.replace(encoder, from_random=False)
            for encoder in (self.images, self.texts)
        ]
        self.tuner = build_tuner(
            model, encoders, loss, self.config, 1000, [], Replicas()
        )

    def steps(self, batch: Batch, count: int) -> Callable[[], None]:
        """So many updates on one batch."""
        return lambda: [self.tuner.step(lambda: [batch], 1) for _ in range(count)]

    def batch(self, pixels: np.ndarray) -> Batch:
        """In memory; every text has `LENGTH` tokens."""
        tokens = self.texts.pack(
            self.texts.tokenize(tf.constant([CAPTION] * len(pixels))), LENGTH
        )
        ids = np.stack([np.arange(len(pixels))] * 2, axis=1).astype("int32")
        return Batch(tf.constant(pixels), tokens, tf.constant(ids))

    def read(self, folder: Path, size: int, count: int) -> Callable[[], None]:
        """So many updates on pictures that are read and augmented meanwhile."""
        batches = self.batches(folder, size, count)

        def steps() -> None:
            data = iter(batches())
            for _ in range(count):
                self.tuner.step(lambda: [next(data)], 1)

        return steps

    def reading(self, folder: Path, size: int, count: int) -> Callable[[], None]:
        """One update a call on pictures that are read and augmented meanwhile."""
        data = iter(self.batches(folder, size, count)())
        return lambda: self.tuner.step(lambda: [next(data)], 1) and None

    def cached(self, folder: Path, size: int, count: int) -> Callable[[], None]:
        """One update on so many batches, whose pairs meet in a gradient cache."""
        return lambda: self.tuner.step(self.batches(folder, size, count), count)

    def batches(self, folder: Path, size: int, count: int) -> Callable:
        """Batches of a folder's pictures, read and augmented ahead."""
        files = sorted(map(str, folder.iterdir()))
        paths = np.resize(np.array(files, object), size * count)
        names = np.arange(len(paths)).astype(str).astype(object)
        texts = np.array([f"{CAPTION} {name}" for name in names], object)
        rows = np.arange(len(paths))
        pairs = RawPairs(names, paths, texts, rows, np.arange(len(paths) + 1))
        order = epoch_order(pairs, size, 0, 0, "phase2")
        encoders = (self.images, self.texts)
        data = RawBatches(pairs, *encoders, self.config.phase2, seed=0)
        return lambda: data(order, 0, 0, count)
