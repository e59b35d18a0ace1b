"""A layer's inference, compiled by the backend that Keras runs on."""

from collections.abc import Callable

import keras
import numpy as np

from twinlens.backend import JAX, backend

Inference = Callable[[np.ndarray], np.ndarray]


def compiled(layer: keras.Layer, shape: tuple[int, ...]) -> Inference:
    """A function from `(n, *shape)` float32 rows to the layer's output.

    Args:
        layer: built; its weights may change between calls.
        shape: of a row.
    """
    if backend() == JAX:
        return _by_jax(layer)
    return _by_tensorflow(layer, shape)


def _by_tensorflow(layer: keras.Layer, shape: tuple[int, ...]) -> Inference:
    import tensorflow as tf

    signature = tf.TensorSpec([None, *shape], tf.float32)
    function = tf.function(
        lambda rows: layer(rows, training=False),
        input_signature=[signature],
        autograph=False,  # nothing to convert, and tracing is quicker without
    )
    return lambda rows: function(rows).numpy()


def _by_jax(layer: keras.Layer) -> Inference:
    import jax

    @jax.jit  # once for each number of rows: that of a block, and of the last one
    def function(weights, others, rows):
        return layer.stateless_call(weights, others, rows, training=False)[0]

    def infer(rows: np.ndarray) -> np.ndarray:
        variables = (layer.trainable_variables, layer.non_trainable_variables)
        values = ([v.value for v in part] for part in variables)
        return np.asarray(function(*values, rows))

    return infer
