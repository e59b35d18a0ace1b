"""Many steps of heads as one program of JAX; the counterpart of `steps_tensorflow`."""

import operator
import threading

import jax
import keras
import numpy as np

from twinlens.model import Heads
from twinlens.training.memory import shared_rows
from twinlens.training.numbers import Numbers

_HELD: dict[int, tuple[np.ndarray, jax.Array]] = {}  # by id, arrays and their copies
_LOCK = threading.Lock()


class Steps:
    """As `steps_tensorflow.Steps`, on JAX' first device.

    Variables become values, pass through the steps, and are assigned at the end.
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
        self.numbers = numbers
        self._state = (
            heads.trainable_variables,
            heads.non_trainable_variables,
            optimizer.variables,
            averages,
        )
        self._many = jax.jit(self._many_steps)
        self._gradients = jax.value_and_grad(self._loss, has_aux=True)

    def features(
        self, features: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> jax.Array:
        """`(rows, *shape)` of a feature array: on a CPU in place, else copied once."""
        with _LOCK:  # one copy for all that train beside each other
            if id(features) not in _HELD:
                shared = jax.dlpack.from_dlpack(shared_rows(features, shape))
                there = jax.device_put(shared, jax.devices()[0])
                _HELD[id(features)] = features, there  # held: nothing else has its id
            return _HELD[id(features)][1]

    def __call__(
        self, given, images, texts, image_rows, text_rows, ids, count
    ) -> float:
        """Takes the steps; see `steps_tensorflow.Steps`."""
        state = [[each.value for each in part] for part in self._state]
        rows = (image_rows, text_rows, ids, count)
        state, total = self._many(state, *given, images, texts, *rows)
        for variables, values in zip(self._state, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return float(total)

    def _many_steps(
        self,
        state,
        ema_decay,
        numbers,
        images,
        texts,
        image_rows,
        text_rows,
        ids,
        count,
    ):
        def step(number, carried):
            state, total = carried
            features = images[image_rows[number]], texts[text_rows[number]]
            of_step = jax.tree.map(operator.itemgetter(number), ids)
            state, loss = self._one_step(state, features, of_step, ema_decay)
            return state, total + loss

        with self.numbers.given(numbers):
            return jax.lax.fori_loop(0, count, step, (state, jax.numpy.float32(0)))

    def _one_step(self, state, features, ids, ema_decay):
        weights, others, of_optimizer, averages = state
        (loss, others), gradients = self._gradients(weights, others, features, ids)
        weights, of_optimizer = self.optimizer.stateless_apply(
            of_optimizer, gradients, weights
        )
        averages = [
            average + (1 - ema_decay) * (weight - average)
            for average, weight in zip(averages, weights, strict=False)
        ]
        return [weights, others, of_optimizer, averages], loss

    def _loss(self, weights, others, features, ids):
        """The loss, and the values of the variables that do not train."""
        trained, kept, *_ = self._state
        values = zip([*trained, *kept], [*weights, *others], strict=True)
        with keras.StatelessScope(values) as scope:
            loss = self.heads.training_loss(self.loss, features, ids)
        return loss, [scope.get_current_value(each) for each in kept]
