"""A SavedModel as a layer of Keras 3."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from twinlens.encoders.saved_endpoint import Endpoint, endpoint, variables_of
from twinlens.encoders.saved_program import FILE, check_program, load_without_values
from twinlens.errors import InputError


@keras.saving.register_keras_serializable(package="twinlens")
class SavedModel(layers.Layer):
    """A SavedModel as a layer of Keras 3, whose variables train and are saved.

    Args:
        variables: `[name, shape, dtype, trainable]` of each variable.
        inputs: shape and dtype of the input, or a dict of them.
        outputs: shape of each output.

    Call arguments:
        inputs: as the SavedModel takes them.
        training: passed on where the SavedModel takes it, unless the layer is frozen.

    Returns:
        Dict of float32 tensors: the outputs by name.

    A `.keras` file holds the graph beside the weights, and so needs no other file. It
    is loaded with Keras' safe mode, too, because every graph is checked first: one
    that could do more than compute is refused (`check_program`).

    Example:
        ```python
        program, loaded = open_folder(Path("mobilenet"), "mobilenet")
        pixels = [[None, 224, 224, 3], "float32"]
        layer = SavedModel.of(program, loaded, pixels, "mobilenet")
        features = layer(tf.zeros((1, 224, 224, 3)))["output"]
        ```
    """

    def __init__(self, variables: list, inputs: Any, outputs: dict, **kwargs) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.variable_specs, self.input_specs = variables, inputs
        self.output_shapes = outputs
        self._own = [
            self.add_weight(
                shape=tuple(shape),
                initializer="zeros",
                dtype=dtype,
                trainable=trainable,
                autocast=False,
                name=name,
            )
            for name, shape, dtype, trainable in variables
        ]
        self._program, self._endpoint = b"", None
        self.built = True

    @classmethod
    def of(cls, program: bytes, loaded: Any, inputs: Any, what: str, **kwargs):
        """The layer of a SavedModel that is loaded, with its values.

        Args:
            program: its graph, of `open_folder`.
            loaded: the object, of `open_folder`.
            inputs: `[shape, dtype]` of the input, or a dict of them.
            what: it is, for people.
            **kwargs: of a Keras layer.

        Raises:
            InputError: it cannot be called on such inputs.
        """
        found = endpoint(loaded, _specs(inputs), what)
        variables = variables_of(loaded)
        learning = getattr(loaded, "trainable_variables", None)
        if learning is None:  # not all SavedModels say
            learning = [each for each in variables if each.trainable]
        learning = {id(each) for each in learning}
        described = [
            [
                f"{number:04}_{each.name.partition(':')[0].replace('/', '_')}",
                each.shape.as_list(),
                each.dtype.name,
                id(each) in learning,
            ]
            for number, each in enumerate(variables)
        ]
        layer = cls(described, inputs, found.outputs, **kwargs)
        layer._bind(program, variables, found)
        return layer

    def call(self, inputs, training: bool = False) -> dict:
        """The SavedModel's outputs by name."""
        if self._endpoint is None:
            raise InputError(
                f"The layer {self.name!r} has no graph: it was made from its settings "
                "alone. Load it from the .keras file, or open its encoder anew."
            )
        learns = training and self.trainable
        run = self._endpoint.training if learns else self._endpoint.inference
        found = run(inputs)
        return {
            name: tf.ensure_shape(tf.cast(found[name], tf.float32), tuple(shape))
            for name, shape in self.output_shapes.items()
        }

    def compute_output_spec(self, inputs, training: bool = False) -> dict:
        """Shapes of the outputs, known before there is a graph."""
        return {
            name: keras.KerasTensor(tuple(shape), "float32")
            for name, shape in self.output_shapes.items()
        }

    def get_config(self) -> dict:
        """Settings that build the same layer again, without its graph."""
        return super().get_config() | {
            "variables": self.variable_specs,
            "inputs": self.input_specs,
            "outputs": self.output_shapes,
        }

    def save_assets(self, dir_path: str) -> None:
        """Puts the graph into a `.keras` file."""
        (Path(dir_path) / FILE).write_bytes(self._program)

    def load_assets(self, dir_path: str) -> None:
        """Takes the graph from a `.keras` file; the weights are there already.

        Raises:
            InputError: there is none, or it does more than compute.
        """
        file = Path(dir_path) / FILE
        program = file.read_bytes() if file.is_file() else b""
        what = f"The SavedModel in the layer {self.name!r}"
        check_program(program, what)
        loaded = load_without_values(program)
        variables = variables_of(loaded)
        for own, variable in zip(self._own, variables, strict=True):
            variable.assign(own.value)
        found = endpoint(loaded, _specs(self.input_specs), what)
        self._bind(program, variables, found)

    def _bind(self, program: bytes, variables: list, found: Endpoint) -> None:
        """Lets Keras' variables be those of the graph."""
        self._program, self._endpoint = program, found
        for own, variable in zip(self._own, variables, strict=True):
            own._value = variable


def _specs(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: tf.TensorSpec(*each, name=name) for name, each in inputs.items()}
    return tf.TensorSpec(*inputs)
