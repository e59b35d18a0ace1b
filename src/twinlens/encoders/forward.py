"""A frozen encoder as one constant graph: what a cache is filled with."""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training.saver import export_meta_graph

from twinlens.errors import InputError

LOWERING = "auto_mixed_precision_onednn_bfloat16"  # TensorFlow's name of the rewrite


def frozen(
    model: keras.Model, inputs: tf.TensorSpec, dtype: str = "float32"
) -> Callable:
    """The model's inference with its weights as constants.

    TensorFlow then folds batch normalisation into the convolutions, which saves a
    tenth to a third of the time; the numbers stay the same within float tolerance.
    Later changes of the weights are not seen. For transformers, whose weights
    outweigh a batch, folding takes longer than it saves.

    Args:
        model: a float32 Keras model of one input.
        inputs: of the model.
        dtype: `"bfloat16"` lets TensorFlow compute convolutions and products in it,
            faster than Keras' mixed policy (`experiments/README.md`).

    Returns:
        A function of one tensor to the model's output.

    Raises:
        InputError: the processor cannot compute in bfloat16.
    """

    @tf.function(input_signature=[inputs])
    def forward(pixels):
        return model(pixels, training=False)

    graph = convert_variables_to_constants_v2(forward.get_concrete_function())
    if dtype == "bfloat16":
        graph = _lowered(graph)
        return lambda pixels: graph(pixels)
    return lambda pixels: graph(pixels)[0]


@contextlib.contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """Inside, TensorFlow's compiled functions compute in `dtype` where it is safe.

    Variables stay float32, and so does what is compiled by XLA. `check_bfloat16` says
    whether the processor can.
    """
    if dtype != "bfloat16":
        yield
        return
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({LOWERING: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({LOWERING: False} | options)


def check_bfloat16(setting: str) -> None:
    """Refuses bfloat16 where it would silently stay float32.

    Raises:
        InputError: the processor cannot compute in it.
    """

    @tf.function(input_signature=[tf.TensorSpec([64, 64])])
    def product(x):
        return tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(x, tf.eye(64))), tf.eye(64)))

    _lowered(
        convert_variables_to_constants_v2(product.get_concrete_function()), setting
    )


def _lowered(graph, setting: str = "image_encoder.dtype") -> Callable:
    """The constant graph with casts to bfloat16 where TensorFlow finds them safe."""
    start, end = graph.inputs[0].name, graph.outputs[0].name
    meta = export_meta_graph(graph_def=graph.graph.as_graph_def(), graph=graph.graph)
    meta.collection_def["train_op"].node_list.value.append(end)  # what must stay
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    setattr(rewrites, LOWERING, rewriter_config_pb2.RewriterConfig.ON)
    rewrites.optimizers.append(LOWERING)
    definition = tf_optimizer.OptimizeGraph(config, meta)
    if not _casts(definition):
        raise InputError(
            f"{setting} is 'bfloat16', but TensorFlow cannot compute in it on this "
            f"processor (it wants AVX-512). Set {setting}=float32."
        )
    imported = tf.compat.v1.wrap_function(
        lambda: tf.import_graph_def(definition, name=""), []
    )
    return imported.prune(start, end)


def _casts(definition: graph_pb2.GraphDef) -> bool:
    half = tf.bfloat16.as_datatype_enum
    casts = [node for node in definition.node if node.op == "Cast"]
    return any(node.attr["DstT"].type == half for node in casts)
