"""Both towers as ONNX: pixels and tokens to embeddings."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from twinlens.errors import InputError
from twinlens.export.samples import Arrays
from twinlens.export.towers import Towers

OPSET = 18  # of ONNX's operations; read by every onnxruntime since 1.14
FILES = {"encode_pixels": "image.onnx", "encode_tokens": "text.onnx"}


def write_onnx(towers: Towers, folder: Path) -> None:
    """Writes `image.onnx` and `text.onnx`.

    They take batches of one or more, and texts of any length that the encoder takes.

    Args:
        towers: to convert.
        folder: is made.

    Raises:
        InputError: the network has an operation that ONNX or tf2onnx does not know.
    """
    folder.mkdir()
    converted = {
        "encode_pixels": (towers.embed_pixels, [towers.pixels_spec]),
        "encode_tokens": (towers.embed_tokens, [*towers.tokens_spec]),
    }
    for name, (run, specs) in converted.items():
        _convert(run, specs, folder / FILES[name])


def _convert(run, specs: list[tf.TensorSpec], path: Path) -> None:
    import tf2onnx

    @tf.function(input_signature=specs, autograph=False)
    def tower(*inputs):
        return {"embedding": run(*inputs)}

    handlers = {"Erfc": (_one_minus_erf, [])}
    model, _ = tf2onnx.convert.from_function(
        tower, specs, opset=OPSET, custom_op_handlers=handlers
    )
    unknown = {node.op_type for node in model.graph.node if not node.domain}
    unknown -= _operations()
    if unknown:
        raise InputError(
            f"{path.name} cannot be written: tf2onnx does not know how to convert "
            f"{', '.join(sorted(unknown))}. Leave --onnx away."
        )
    path.write_bytes(model.SerializeToString())


def _operations() -> set[str]:
    """What ONNX has."""
    import onnx

    return {each.name for each in onnx.defs.get_all_schemas()}


def _one_minus_erf(ctx, node, name, args) -> None:
    """Of GELU; ONNX has erf(x), but no erfc(x) = 1 - erf(x)."""
    import tf2onnx

    (source,), (output,) = node.input, node.output
    shapes, dtypes = [ctx.get_shape(output)], [ctx.get_dtype(output)]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [source], shapes=shapes, dtypes=dtypes)
    one = ctx.make_const(tf2onnx.utils.make_name("one"), np.float32(1))
    inputs = [one.output[0], erf.output[0]]
    ctx.make_node("Sub", inputs, outputs=[output], shapes=shapes, dtypes=dtypes)


def ask_onnx(folder: Path, asked: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """What onnxruntime answers, by endpoint.

    Args:
        folder: of `write_onnx`.
        asked: inputs of `encode_pixels` and `encode_tokens`.
    """
    import onnxruntime

    found = {}
    for name, file in FILES.items():
        session = onnxruntime.InferenceSession(
            str(folder / file), providers=["CPUExecutionProvider"]
        )
        wanted = [each.name for each in session.get_inputs()]  # of TF-IDF no mask
        inputs = {each: asked[name][each] for each in wanted}
        found[name] = {"embedding": session.run(["embedding"], inputs)[0]}
    return found
