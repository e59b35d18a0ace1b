"""Many steps of heads as one program of TensorFlow."""

import operator

import keras
import numpy as np
import tensorflow as tf

from twinlens.model import Heads
from twinlens.training.memory import shared_rows
from twinlens.training.numbers import Numbers


class Steps:
    """Trains heads by a given number of batches a call.

    Args:
        heads: built heads.
        loss: a loss of `twinlens.losses`.
        optimizer: built on these heads.
        averages: of the trainable weights; or none.
        numbers: of all three, arguments of the compiled program.

    Call arguments:
        given: decay of the averages per step, and values of the numbers.
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
        numbers: Numbers,
    ) -> None:
        self.heads, self.loss, self.optimizer = heads, loss, optimizer
        self.averages, self.numbers = averages, numbers
        self._many = tf.function(self._many_steps, jit_compile=True)

    def features(
        self, features: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> tf.Tensor:
        """`(rows, *shape)` of a feature array, read in place; see `shared_rows`."""
        shared = shared_rows(features, shape)
        return tf.experimental.dlpack.from_dlpack(shared.__dlpack__())

    def __call__(
        self, given, images, texts, image_rows, text_rows, ids, count
    ) -> float:
        """Takes the steps; see the class."""
        rows = (image_rows, text_rows, ids, count)
        return self._many(*given, images, texts, *rows).numpy()

    def _many_steps(
        self, ema_decay, numbers, images, texts, image_rows, text_rows, ids, count
    ):
        total = tf.constant(0.0)
        with self.numbers.given(numbers):
            for step in tf.range(count):
                features = (
                    tf.gather(images, image_rows[step]),
                    tf.gather(texts, text_rows[step]),
                )
                of_step = tf.nest.map_structure(operator.itemgetter(step), ids)
                total += self._one_step(features, of_step, ema_decay)
        return total

    def _one_step(self, features, ids, ema_decay):
        with tf.GradientTape() as tape:
            loss = self.heads.training_loss(self.loss, features, ids)
        weights = self.heads.trainable_variables
        zero = tf.UnconnectedGradients.ZERO  # a fusion may leave one side out
        gradients = tape.gradient(loss, [w.value for w in weights], None, zero)
        self.optimizer.apply(gradients, weights)
        for average, weight in zip(self.averages, weights, strict=False):
            average.assign_add((1 - ema_decay) * (weight.value - average))
        return loss
