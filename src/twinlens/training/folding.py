"""Frozen batch normalisation inside the convolutions before it, while they train."""

import keras
from keras import layers, ops
from keras.src.models import Functional  # no public name: who computes layer by layer


class Folded(layers.Layer):
    """A tower that computes the same, with fewer passes over its grids.

    Batch normalisation whose statistics stay is a factor and an offset for each
    channel; both go into the kernel before the convolution instead of over the grid
    after it. Gradients reach the kernels through the factors, as they would through
    the normalisation.

    Args:
        tower: a functional model, perhaps with functional models inside.

    Call arguments:
        inputs: what the tower takes.

    Returns:
        What the tower gives, within float tolerance.
    """

    def __init__(self, tower: keras.Model) -> None:
        super().__init__(name=f"folded_{tower.name}")
        self.tower = tower
        self._normalised = {conv: norm for norm, conv in _pairs(tower)}
        self._done = set(self._normalised.values())
        self._inside = {x: Folded(x) for x in tower.layers if _is_functional(x)}

    def call(self, inputs, training=None, mask=None):
        """The tower's inputs to its outputs."""
        found = self.tower._run_through_graph(
            inputs, operation_fn=lambda each: self._operation(each, training)
        )
        single = isinstance(found, list | tuple) and len(found) == 1
        return found[0] if single else found

    def _operation(self, operation, training):
        if operation in self._done:
            return lambda grid, **_: grid
        if operation in self._normalised:
            norm = self._normalised[operation]
            return lambda grid, **_: _convolved(operation, norm, grid)
        inner = self._inside.get(operation, operation)
        if training is None or not getattr(inner, "_call_has_training_arg", False):
            return inner
        return lambda *args, **named: inner(*args, **{**named, "training": training})


def fold(tower: keras.Model) -> keras.layers.Layer:
    """The tower; folded, where something in it can be."""
    if not _is_functional(tower):
        return tower
    folded = Folded(tower)
    return folded if _folds(folded) else tower


def _is_functional(layer: keras.layers.Layer) -> bool:
    """Whether its layers say all that it computes."""
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def _folds(folded: Folded) -> bool:
    return bool(folded._normalised) or any(map(_folds, folded._inside.values()))


def _pairs(tower: keras.Model) -> list[tuple[layers.Layer, layers.Layer]]:
    """Frozen normalisations with the convolutions that feed them and nothing else."""
    found, outputs = [], {id(each) for each in tower.outputs}
    for norm in tower.layers:
        if not isinstance(norm, layers.BatchNormalization) or norm.trainable:
            continue
        before = norm.input._keras_history.operation
        plain = type(before) is layers.Conv2D and before.data_format == "channels_last"
        alone = plain and len(before._outbound_nodes) == 1
        if id(norm.input) in outputs:  # wanted as it is
            continue
        if alone and before.activation is keras.activations.linear:
            found.append((norm, before))
    return found


def _convolved(convolution, norm, grid):
    """Convolution and frozen normalisation in one."""
    factor = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        factor = factor * norm.gamma
    offset = -norm.moving_mean * factor
    if norm.center:
        offset = offset + norm.beta
    if convolution.use_bias:
        offset = offset + convolution.bias * factor
    return convolution.convolution_op(grid, convolution.kernel * factor) + offset
