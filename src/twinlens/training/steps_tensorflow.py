"""Many steps of heads as one program of TensorFlow."""

import operator

import keras
import numpy as np
import tensorflow as tf

from twinlens.model import Heads
from twinlens.training.memory import shared_rows


class Steps:
    """Trains heads by a given number of batches a call.

    Args:
        heads: built heads.
        loss: a loss of `twinlens.losses`.
        optimizer: built on these heads.
        averages: of the trainable weights; or none.
        ema_decay: of the averages, per step.

    Call arguments:
        images, texts: of `features`.
        image_rows: `(steps, pictures)` int32.
        text_rows: `(steps, batch)` int32.
        ids: of the loss, each `(steps, …)` int32.
        count: how many of the steps count.

    Returns:
        The sum of the steps' losses.
    """

    def __init__(
        self,
        heads: Heads,
        loss: keras.losses.Loss,
        optimizer: keras.optimizers.Optimizer,
        averages: list[keras.Variable],
        ema_decay: float,
    ) -> None:
        self.heads, self.loss, self.optimizer = heads, loss, optimizer
        self.averages, self.ema_decay = averages, ema_decay
        self._many = tf.function(self._many_steps, jit_compile=True)

    def features(
        self, features: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> tf.Tensor:
        """`(rows, *shape)` of a feature array, read in place; see `shared_rows`."""
        shared = shared_rows(features, shape)
        return tf.experimental.dlpack.from_dlpack(shared.__dlpack__())

    def __call__(self, images, texts, image_rows, text_rows, ids, count) -> float:
        """Takes the steps; see the class."""
        return self._many(images, texts, image_rows, text_rows, ids, count).numpy()

    def _many_steps(self, images, texts, image_rows, text_rows, ids, count):
        total = tf.constant(0.0)
        for step in tf.range(count):
            features = (
                tf.gather(images, image_rows[step]),
                tf.gather(texts, text_rows[step]),
            )
            of_step = tf.nest.map_structure(operator.itemgetter(step), ids)
            total += self._one_step(features, of_step)
        return total

    def _one_step(self, features, ids):
        with tf.GradientTape() as tape:
            loss = self.heads.training_loss(self.loss, features, ids)
        weights = self.heads.trainable_variables
        zero = tf.UnconnectedGradients.ZERO  # a fusion may leave one side out
        gradients = tape.gradient(loss, [w.value for w in weights], None, zero)
        self.optimizer.apply(gradients, weights)
        for average, weight in zip(self.averages, weights, strict=False):
            average.assign_add((1 - self.ema_decay) * (weight.value - average))
        return loss
