"""The compiled loop over cached features.

A custom loop instead of `fit`: a step takes about five milliseconds, less than
Keras spends around it. Here the host gathers rows for a few steps at once while
the compiled steps before them run; measured in `experiments/README.md`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from twinlens.model import Heads
from twinlens.training.pairs import Epoch, PairFeatures, gather

CHUNK_PAIRS = 4096  # gathered at once: some 40 MB, close to the processor's cache


class HeadTrainer:
    """Trains heads on pairs of features, one epoch a call.

    Args:
        heads: built heads.
        loss: a loss of `twinlens.losses`.
        optimizer: a Keras optimizer, not built yet or built on these heads.
        ema_decay: of a moving average of the weights, per step; 0 keeps none.

    Example:
        ```python
        trainer = HeadTrainer(heads, InfoNCELoss(), keras.optimizers.AdamW(1e-3))
        mean_loss = trainer.run_epoch(pairs, epoch_order(pairs, 256, seed=0, epoch=0))
        ```
    """

    def __init__(
        self,
        heads: Heads,
        loss: keras.losses.Loss,
        optimizer: keras.optimizers.Optimizer,
        ema_decay: float = 0.0,
    ) -> None:
        self.heads, self.loss, self.optimizer = heads, loss, optimizer
        self.ema_decay = ema_decay
        optimizer.build(heads.trainable_variables)
        self.averages = [
            tf.Variable(weight.value, trainable=False)
            for weight in (heads.trainable_variables if ema_decay else [])
        ]
        self._step = tf.function(self._one_step, jit_compile=True)
        self._steps = tf.function(self._many_steps, reduce_retracing=True)

    def run_epoch(self, pairs: PairFeatures, epoch: Epoch) -> float:
        """Trains on one epoch; returns the mean loss."""
        losses = [
            self._steps(images, texts, ids).numpy()
            for images, texts, ids in _chunks(pairs, epoch)
        ]
        return float(np.sum(losses) / len(epoch.pictures))

    def state(self) -> list:
        """Every variable that a resumed run needs, in a fixed order."""
        return [*self.heads.variables, *self.optimizer.variables, *self.averages]

    def swap_averages(self) -> None:
        """Exchanges the weights with their moving averages, if there are any."""
        for weight, average in zip(
            self.heads.trainable_variables, self.averages, strict=False
        ):
            value = weight.numpy()
            weight.assign(average)
            average.assign(value)

    def _many_steps(self, images, texts, ids):
        """`(steps, batch, …)` arrays → the sum of the steps' losses."""
        total = tf.constant(0.0)
        for index in tf.range(tf.shape(ids)[0]):
            total += self._step(images[index], texts[index], ids[index])
        return total

    def _one_step(self, images, texts, ids):
        with tf.GradientTape() as tape:
            logits = self.heads.training_logits(
                (images, texts), self.loss.needs_similarities
            )
            loss = self.loss(ids, logits)
        weights = self.heads.trainable_variables
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        self.optimizer.apply(gradients, weights)
        for average, weight in zip(self.averages, weights, strict=False):
            average.assign_add((1 - self.ema_decay) * (weight.value - average))
        return loss


def _chunks(pairs: PairFeatures, epoch: Epoch) -> Iterator[tuple]:
    """Features and ids of a few steps at once, gathered one chunk ahead."""
    steps, batch_size = epoch.pictures.shape
    size = max(1, CHUNK_PAIRS // batch_size)

    def load(start: int) -> tuple:
        part = slice(start, start + size)
        pictures, text_rows = epoch.pictures[part], epoch.text_rows[part]
        images = gather(pairs.images, pairs.image_rows[pictures], epoch.views[part])
        texts = gather(pairs.texts, text_rows, np.zeros_like(text_rows))
        ids = np.stack([pictures, text_rows], axis=-1).astype(np.int32)
        return tuple(tf.convert_to_tensor(array) for array in (images, texts, ids))

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(load, 0)
        for start in range(size, steps + size, size):
            chunk = ahead.result()
            if start < steps:
                ahead = pool.submit(load, start)
            yield chunk
