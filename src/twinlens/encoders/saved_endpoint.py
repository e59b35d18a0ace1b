"""How a loaded SavedModel is called, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from twinlens.errors import InputError

SIGNATURES = ("serving_default", "default")  # that stand for the whole


@dataclass(frozen=True)
class Endpoint:
    """How a loaded SavedModel is called.

    Attributes:
        inference: a tensor, or a dict of tensors, to the outputs by name.
        training: the same in training, where it has such a thing.
        outputs: shape of each output, `None` where any size may be.
    """

    inference: Callable
    training: Callable
    outputs: dict[str, list[int | None]]


def endpoint(loaded: Any, example: Any, what: str) -> Endpoint:
    """How a SavedModel is called on tensors like the example.

    The object itself, as in reusable SavedModels, or else its signature.

    Args:
        loaded: of `tf.saved_model.load`.
        example: a `tf.TensorSpec`, or a dict of them.
        what: it is, for people.

    Raises:
        InputError: it cannot be called so.

    Reference:
        https://www.tensorflow.org/hub/reusable_saved_models.
    """
    reasons = ["it has neither __call__ nor one signature."]
    for inference, training in _ways(loaded):
        try:
            found = _traced(inference, example)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            reasons.append(" ".join(str(error).split())[:600])
            continue
        try:
            _traced(training, example)
        except (TypeError, ValueError, tf.errors.OpError):
            training = inference
        shapes = {name: each.shape for name, each in found.items()}
        outputs = {n: s.as_list() if s.rank else [] for n, s in shapes.items()}
        return Endpoint(inference, training, outputs)
    raise InputError(
        f"{what} cannot be called on {_shown(example)}. TensorFlow says: {reasons[-1]} "
        "Take a SavedModel for this kind of input."
    )


def input_shapes(loaded: Any, name: str = "") -> list[tf.TensorShape]:
    """Shapes that the functions of a SavedModel take.

    Args:
        loaded: of `tf.saved_model.load`.
        name: of one input; all of them, where not given.
    """
    functions = _functions(loaded)
    specs = tf.nest.flatten([each.structured_input_signature for each in functions])
    found = [each for each in specs if isinstance(each, tf.TensorSpec)]
    return [each.shape for each in found if not name or each.name == name]


def variables_of(loaded: Any) -> list[tf.Variable]:
    """Variables that the functions use, in an order that is always the same."""
    used = {id(each) for function in _functions(loaded) for each in function.variables}
    parts = tf.train.TrackableView(loaded).descendants()
    return [each for each in parts if id(each) in used]


def _functions(loaded: Any) -> list:
    """Those of the object itself, and its signature."""
    found = list(loaded.__call__.concrete_functions) if callable(loaded) else []
    signature = _signature(loaded)
    return found if signature is None else [*found, signature]


def _ways(loaded: Any) -> list[tuple[Callable, Callable]]:
    """Ways to call it, in inference and in training, the best first."""
    ways = []
    if callable(loaded):
        ways += [
            (
                _flat(lambda inputs: loaded(inputs, training=False)),
                _flat(lambda inputs: loaded(inputs, training=True)),
            ),
            (_flat(loaded),) * 2,
        ]
    signature = _signature(loaded)
    if signature is not None:
        by_name = _flat(lambda inputs: signature(**_named(signature, inputs)))
        ways.append((by_name, by_name))
    return ways


def _signature(loaded: Any):
    signatures = getattr(loaded, "signatures", {})
    names = [name for name in SIGNATURES if name in signatures]
    if not names and len(signatures) == 1:
        names = list(signatures)
    return signatures[names[0]] if names else None


def _named(signature, inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, dict):
        return inputs
    names = list(signature.structured_input_signature[1])
    if len(names) != 1:
        raise ValueError(f"the signature takes {', '.join(names)}.")
    return {names[0]: inputs}


def _traced(way: Callable, example: Any) -> dict[str, tf.Tensor]:
    """The symbolic outputs; nothing is computed."""
    function = tf.function(way, autograph=False)
    return function.get_concrete_function(example).structured_outputs


def _flat(way: Callable) -> Callable:
    """Outputs as a flat dict: lists inside one become `NAME_0`, `NAME_1`, …."""

    def flat(inputs):
        found, named = way(inputs), {}
        for name, each in (found if isinstance(found, dict) else {"": found}).items():
            if isinstance(each, list | tuple):
                named |= {f"{name}_{i}": one for i, one in enumerate(each)}
            else:
                named[name or "output"] = each
        return named

    return flat


def _shown(example: Any) -> str:
    if isinstance(example, dict):
        return "a dict of " + ", ".join(example)
    return f"{example.dtype.name} of the shape {tuple(example.shape)}"
