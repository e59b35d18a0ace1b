"""The compiled loop over cached features.

A custom loop instead of `fit`: a step takes milliseconds, less than Keras spends
around it. Many steps run as one compiled program that gathers its rows from the
memory map itself; measured in `experiments/README.md`.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from twinlens.model import Heads
from twinlens.training.numbers import Numbers
from twinlens.training.pairs import Epoch, PairFeatures

CALL_PAIRS = 65_536  # trained in one call, a few seconds: Ctrl-C waits for its end
ALIGNMENT = 64  # bytes; TensorFlow aborts on tensors that start elsewhere


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
        self.numbers = Numbers(heads, loss, optimizer)
        self._steps = tf.function(self._many_steps, jit_compile=True)
        self._worker = self

    def work_with(self, other: "HeadTrainer") -> None:
        """Trains with the compiled program of another trainer from now on.

        The other's variables serve as the program's memory: nothing else may train
        them.

        Args:
            other: of the same shape; see `program_key`. One thread at a time uses it.
        """
        self._worker = other

    def run_epoch(
        self,
        pairs: PairFeatures,
        epoch: Epoch,
        on_pairs: Callable[[int], None] = lambda count: None,
    ) -> float:
        """Trains on one epoch; returns the mean loss.

        `on_pairs` gets the pairs that are done, now and then in a long epoch.
        """
        images = as_tensor(pairs.images, pairs.image_shape)
        texts = as_tensor(pairs.texts, pairs.text_shape)
        given, losses = (np.float32(self.ema_decay), self.numbers.values), []
        _copy(self.state(), self._worker.state())
        for image_rows, text_rows, ids, count in _calls(*epoch.rows(pairs)):
            if losses:
                on_pairs(text_rows.size)
            rows = (image_rows, text_rows, ids)
            found = self._worker._steps(*given, images, texts, *rows, count)
            losses.append(found.numpy())
        _copy(self._worker.state(), self.state())
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

    def _many_steps(
        self, ema_decay, numbers, images, texts, image_rows, text_rows, ids, count
    ):
        """`count` steps on `(steps, batch)` rows → the sum of the steps' losses."""
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


def _copy(source: list, target: list) -> None:
    """Gives variables the values of others; nothing where both are the same."""
    for one, other in zip(source, target, strict=True):
        if one is not other:
            other.assign(one.value if isinstance(one, keras.Variable) else one)


class _Shared:
    """The memory of an array, whether or not the array may be written.

    DLPack has no word for memory that is only read; nothing here writes to it.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # lives as long as the tensor
        interface = array.__array_interface__
        address, _ = interface["data"]
        self.__array_interface__ = interface | {"data": (address, False)}


def as_tensor(features: np.ndarray, shape: tuple[int, ...] | None = None) -> tf.Tensor:
    """Features `(n, *shape)` or `(n, views, *shape)` as `(rows, *shape)`, not copied.

    Memory maps are read in place. Only an array whose rows lie apart, or which
    starts at an address that TensorFlow refuses, is copied.
    """
    rows = np.ascontiguousarray(features).reshape(-1, *(shape or features.shape[-1:]))
    if rows.ctypes.data % ALIGNMENT:
        rows = _aligned(rows)
    shared = np.asarray(_Shared(rows))
    return tf.experimental.dlpack.from_dlpack(shared.__dlpack__())


def _aligned(rows: np.ndarray) -> np.ndarray:
    memory = np.empty(rows.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + rows.nbytes].view(rows.dtype).reshape(rows.shape)
    copy[:] = rows
    return copy


def _calls(image_rows: np.ndarray, text_rows: np.ndarray, ids: Any) -> Iterator[tuple]:
    """Arguments of one call after another, all of the same shape: compiled once.

    Args:
        image_rows: `(steps, pictures)`.
        text_rows: `(steps, batch)`.
        ids: of the loss, each `(steps, …)`.

    Yields:
        Some steps of each as int32, and how many of the steps count.
    """
    steps, batch_size = text_rows.shape
    size = min(steps, max(1, CALL_PAIRS // batch_size))

    def part(rows: np.ndarray, start: int) -> np.ndarray:
        some = rows[start : min(start + size, steps)]
        return np.resize(some, (size, *rows.shape[1:])).astype(np.int32)

    for start in range(0, steps, size):
        found = tf.nest.map_structure(
            lambda rows, start=start: part(rows, start), (image_rows, text_rows, ids)
        )
        yield *found, np.int32(min(size, steps - start))
