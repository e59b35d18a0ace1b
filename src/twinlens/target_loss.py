"""The loss of composed retrieval: each query picks its target among pictures."""

import math

import keras
from keras import ops

from twinlens.losses import MASKED


@keras.saving.register_keras_serializable(package="twinlens")
class TargetLoss(keras.losses.Loss):
    """Cross-entropy of the target among all pictures of the batch.

    References are among the pictures, so that a query learns to leave its own behind.
    A picture that is several queries' target is no negative of any of them.

    Args:
        temperature: at the start; learned from there.
        label_smoothing: this share of each target is spread evenly over the
            candidates that count.

    Call arguments:
        y_true: `(batch, pictures)` 1 for the target, 0 for another picture, -1 for one
            that does not count.
        y_pred: `(batch, pictures)` float logits.

    Returns:
        `(batch,)` loss in nats, averaged by Keras. A model that cannot tell pictures
        apart scores the logarithm of how many count.
    """

    learns_temperature = True
    initial_bias = None

    def __init__(
        self,
        temperature: float = 0.07,
        label_smoothing: float = 0.0,
        name: str = "target",
    ) -> None:
        super().__init__(name=name, reduction="mean", dtype="float32")
        self.temperature, self.label_smoothing = temperature, label_smoothing

    def call(self, y_true, y_pred):
        """`(batch,)` loss in nats."""
        counts = ops.cast(y_true >= 0, "float32")
        right = ops.cast(y_true > 0, "float32")
        logits = ops.where(y_true < 0, MASKED, ops.cast(y_pred, "float32"))
        log_probability = logits - ops.logsumexp(logits, axis=1, keepdims=True)
        even = counts / ops.sum(counts, axis=1, keepdims=True)
        wanted = (1 - self.label_smoothing) * right + self.label_smoothing * even
        return -ops.sum(ops.where(counts > 0, wanted * log_probability, 0.0), axis=1)

    def chance_level(self, num_pictures: int) -> float:
        """Loss of a model that cannot tell pictures apart: `log(pictures)` nats."""
        return math.log(num_pictures)

    def get_config(self) -> dict:
        """Settings that build the same loss again."""
        return {
            "temperature": self.temperature,
            "label_smoothing": self.label_smoothing,
            "name": self.name,
        }
