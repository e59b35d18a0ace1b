"""The compiled loop over cached features.

A custom loop instead of `fit`: a step takes milliseconds, less than Keras spends
around it. Many steps run as one compiled program that gathers its rows from the
memory map itself; measured in `experiments/README.md`. The program is TensorFlow's
or JAX', whichever Keras runs on.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from twinlens.backend import JAX, backend
from twinlens.model import Heads
from twinlens.training.numbers import Numbers
from twinlens.training.pairs import Epoch, PairFeatures

CALL_PAIRS = 65_536  # trained in one call, a few seconds: Ctrl-C waits for its end


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
        optimizer.build(heads.trainable_variables)
        self.averages = [
            keras.Variable(weight.numpy(), trainable=False)
            for weight in (heads.trainable_variables if ema_decay else [])
        ]
        self.ema_decay, self.numbers = ema_decay, Numbers(heads, loss, optimizer)
        self._steps = _steps()(heads, loss, optimizer, self.averages, self.numbers)
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
        steps = self._worker._steps
        images = steps.features(pairs.images, pairs.image_shape)
        texts = steps.features(pairs.texts, pairs.text_shape)
        given, losses = (np.float32(self.ema_decay), self.numbers.values), []
        _copy(self.state(), self._worker.state())
        for rows in _calls(*epoch.rows(pairs)):
            if losses:
                on_pairs(rows[1].size)
            losses.append(steps(given, images, texts, *rows))
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


def _copy(source: list, target: list) -> None:
    """Gives variables the values of others; nothing where both are the same."""
    for one, other in zip(source, target, strict=True):
        if one is not other:
            other.assign(one.value)


def _steps() -> type:
    """What trains on the backend that Keras runs on."""
    if backend() == JAX:
        from twinlens.training.steps_jax import Steps
    else:
        from twinlens.training.steps_tensorflow import Steps
    return Steps


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
        found = keras.tree.map_structure(
            lambda rows, start=start: part(rows, start), (image_rows, text_rows, ids)
        )
        yield *found, np.int32(min(size, steps - start))
