"""Both towers for LiteRT, TensorFlow Lite's successor on phones: one item a call."""

from collections.abc import Mapping
from pathlib import Path

import absl.logging
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from twinlens.errors import InputError
from twinlens.export.samples import Arrays
from twinlens.export.towers import Towers
from twinlens.quiet import stderr_kept_back

FILES = {"encode_pixels": "image.tflite", "encode_tokens": "text.tflite"}


def write_litert(towers: Towers, folder: Path) -> None:
    """Writes `image.tflite` and `text.tflite`.

    They take one picture, and one text of exactly as many tokens as the encoder reads,
    padded: lengths that vary would need TensorFlow's own kernels on the phone.

    Args:
        towers: to convert.
        folder: is made.

    Raises:
        InputError: the network has an operation that LiteRT does not know.
    """
    folder.mkdir()
    pixels = _of_one(towers.pixels_spec)
    tokens = [_of_one(each, towers.sequence_length) for each in towers.tokens_spec]
    _convert(towers.embed_pixels, [pixels], folder / FILES["encode_pixels"])
    _convert(towers.embed_tokens, tokens, folder / FILES["encode_tokens"])


def _of_one(spec: tf.TensorSpec, length: int | None = None) -> tf.TensorSpec:
    shape = [1, length] if length else [1, *spec.shape[1:]]
    return tf.TensorSpec(shape, spec.dtype, spec.name)


def _convert(run, specs: list[tf.TensorSpec], path: Path) -> None:
    function = tf.function(run, input_signature=specs, autograph=False)
    # Frozen here: the converter loses the values of Keras 3's variables.
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    absl.logging.set_verbosity(absl.logging.ERROR)  # it calls our way deprecated
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    try:
        path.write_bytes(converter.convert())
    except Exception as error:  # the converter's own kinds, and MLIR's
        raise InputError(
            f"{path.name} cannot be written. LiteRT's converter says: "
            f"{' '.join(str(error).split())[:600]}. Leave --litert away."
        ) from None


def ask_litert(folder: Path, asked: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """What LiteRT answers, by endpoint.

    Args:
        folder: of `write_litert`.
        asked: inputs of `encode_pixels` and `encode_tokens`.
    """
    from ai_edge_litert.interpreter import Interpreter

    found = {}
    for name, file in FILES.items():
        count = len(next(iter(asked[name].values())))
        with stderr_kept_back():  # XNNPACK says that it is there
            interpreter = Interpreter(str(folder / file))
            interpreter.allocate_tensors()
            rows = [_answer(interpreter, asked[name], row) for row in range(count)]
        found[name] = {"embedding": np.concatenate(rows)}
    return found


def _answer(interpreter, inputs: Arrays, row: int) -> np.ndarray:
    for each in interpreter.get_input_details():
        (value,) = inputs[each["name"]][row : row + 1]
        shape = each["shape"][1:]
        missing = [(0, n - m) for n, m in zip(shape, value.shape, strict=True)]
        interpreter.set_tensor(each["index"], np.pad(value, missing)[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
