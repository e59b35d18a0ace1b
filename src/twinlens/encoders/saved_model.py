"""Encoders of TF-Hub, or of any folder with a SavedModel: `hub:HANDLE_OR_PATH`."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from twinlens.encoders.network import PictureNetwork, title_of
from twinlens.encoders.saved_endpoint import endpoint, input_shapes
from twinlens.encoders.saved_layer import SavedModel
from twinlens.encoders.saved_program import (
    TEXTS,
    find_folder,
    folder_digest,
    open_folder,
)
from twinlens.encoders.text_network import TextNetwork
from twinlens.errors import InputError

PREFIX = "hub:"  # before a handle or a folder
IMAGE_SIZE = 224  # pixels a side, where a SavedModel takes any
DEFAULTS = ("imagenet", "bert_base_en_uncased", "")  # nobody asked for other weights
BLOCK_END = "saved_model"  # the whole network is one block
BERT_INPUTS = {  # TF-Hub's names for what we give a text network
    "token_ids": "input_word_ids",
    "padding_mask": "input_mask",
    "segment_ids": "input_type_ids",
}


# === Pictures ===


def saved_picture_network(
    name: str, weights: str, taps: tuple[str, ...], image_size: int
) -> PictureNetwork:
    """A picture network of TF-Hub or of a folder.

    Args:
        name: `"hub:HANDLE_OR_PATH"`; it takes pixels from 0 to 1 (TF-Hub's
            convention), and gives a vector or a grid for each picture.
        weights: the SavedModel brings its own, so left at the default, or empty.
        taps: none: the layers inside cannot be seen.
        image_size: pixels a side, where the SavedModel takes any; 0: 224.

    Raises:
        InputError: no such SavedModel; inner layers or other weights; it takes no
            pictures or gives something else.
    """
    what = f"image_encoder.name={name!r}"
    _refuse_weights(what, "image_encoder.weights", weights)
    if any(taps):
        raise InputError(
            f"image_encoder.layer is {', '.join(taps)!r}, but {what} is a SavedModel, "
            "whose inner layers cannot be tapped. Leave it empty."
        )
    folder = find_folder(name.removeprefix(PREFIX), "image_encoder.name")
    program, loaded = open_folder(folder, what)
    size = _picture_size(loaded) or image_size or IMAGE_SIZE
    inputs = [[None, size, size, 3], "float32"]
    layer = SavedModel.of(
        program, loaded, inputs, what, name=BLOCK_END, trainable=False
    )
    pixels = keras.Input((size, size, 3))
    title = title_of(name)
    output = layer(pixels)[_picture_output(layer, what)]
    return PictureNetwork(
        keras.Model(pixels, output, name=title),
        (layers.Rescaling(1 / 255, name=f"{title}_scale"),),
        size,
        BLOCK_END,
        pooling="none" if len(output.shape) == 2 else "avg",
        program=folder_digest(folder),
    )


def _picture_size(loaded) -> int:
    """Pixels a side that the SavedModel wants; 0 for any."""
    found = [shape for shape in input_shapes(loaded) if shape.rank == 4]
    sizes = {shape[1] for shape in found if shape[1] and shape[1] == shape[2]}
    return sizes.pop() if len(sizes) == 1 else 0


def _picture_output(layer: SavedModel, what: str) -> str:
    """The name of the output that is the feature."""
    shapes = layer.output_shapes
    names = [name for name in ("output", "default") if name in shapes] or list(shapes)
    if len(names) > 1 and names[0] not in ("output", "default"):
        raise InputError(
            f"{what} gives several outputs: {', '.join(sorted(names))}. Take a "
            "SavedModel of feature vectors, with one output or one called 'default'."
        )
    shape = shapes[names[0]]
    if len(shape) not in (2, 4) or not shape[-1]:
        raise InputError(
            f"{what} gives the shape {tuple(shape)} for its pictures. A picture "
            "encoder gives vectors (n, dim) or grids (n, height, width, channels)."
        )
    return names[0]


# === Texts ===


def saved_text_network(name: str, weights: str, preprocessor: str = "") -> TextNetwork:
    """A BERT of TF-Hub or of a folder, with the preprocessor that belongs to it.

    Args:
        name: `"hub:HANDLE_OR_PATH"`; it takes `input_word_ids`, `input_mask` and
            `input_type_ids`, each `(n, length)` int32, and gives a dict with
            `sequence_output`, mostly `pooled_output`, perhaps `encoder_outputs`.
        weights: the SavedModel brings its own, so left at the default, or empty.
        preprocessor: handle or folder of a SavedModel from strings to these three.

    Raises:
        InputError: no such SavedModels; other weights; one that takes or gives
            something else; computation in bfloat16.
    """
    what = f"text_encoder.name={name!r}"
    _refuse_weights(what, "text_encoder.weights", weights)
    if keras.config.dtype_policy().compute_dtype != "float32":
        raise InputError(
            f"text_encoder.dtype is 'bfloat16', but {what} is a SavedModel, which "
            "computes as it was saved. Set text_encoder.dtype=float32."
        )
    tokens = _tokens(preprocessor, what)
    folder = find_folder(name.removeprefix(PREFIX), "text_encoder.name")
    program, loaded = open_folder(folder, what)
    shapes = input_shapes(loaded, "input_word_ids")
    lengths = {shape[1] for shape in shapes if shape.rank == 2}
    length = (lengths.pop() or 0) if len(lengths) == 1 else 0
    spec = [[None, length or None], "int32"]
    layer = SavedModel.of(
        program,
        loaded,
        dict.fromkeys(BERT_INPUTS.values(), spec),
        what,
        name=BLOCK_END,
        trainable=False,
    )
    inputs = {
        own: keras.Input((length or None,), name=own, dtype="int32")
        for own in BERT_INPUTS
    }
    outputs = layer({BERT_INPUTS[own]: each for own, each in inputs.items()})
    _check_text_outputs(layer, what)
    many = sum(name.startswith("encoder_outputs_") for name in outputs)
    inner = [outputs[f"encoder_outputs_{number}"] for number in range(many)]
    return TextNetwork(
        inputs=inputs,
        states=[*inner[:-1], outputs["sequence_output"]],
        length=length,
        pooled=outputs.get("pooled_output"),
        block_end=BLOCK_END,
        program=folder_digest(folder),
        **tokens,
    )


def _tokens(preprocessor: str, what: str) -> dict:
    """What a preprocessor says of a `TextNetwork`'s tokens."""
    setting = "text_encoder.preprocessor"
    if not preprocessor:
        raise InputError(
            f"{what} needs the preprocessor that belongs to it. Set {setting} to its "
            "handle or folder."
        )
    import tensorflow_text  # noqa: F401 - registers operations of preprocessors

    folder = find_folder(preprocessor, setting)
    said = f"{setting}={preprocessor!r}"
    _, loaded = open_folder(folder, said, TEXTS)
    found = endpoint(loaded, tf.TensorSpec([None], tf.string), said)
    missing = [each for each in BERT_INPUTS.values() if each not in found.outputs]
    if missing:
        raise InputError(
            f"{said} gives {', '.join(sorted(found.outputs))}, but not "
            f"{', '.join(missing)}. Take the preprocessor that the encoder's page on "
            "TF-Hub names."
        )
    start, end, pad = _marks(found.inference, said)
    return {
        "tokenizer": SavedTokens(loaded, found.inference, len(start)),
        "start": start,
        "end": end,
        "pad_id": pad,
        "vocabulary": folder_digest(folder),
        "longest": found.outputs["input_word_ids"][1] or 0,
    }


class SavedTokens(tf.Module):
    """Strings to ragged token ids by a preprocessor. Graph code.

    Args:
        loaded: the preprocessor, whose tables have to live as long as this.
        preprocess: how it is called.
        around: tokens that it puts before every text, and as many behind.
    """

    def __init__(self, loaded: Any, preprocess: Callable, around: int) -> None:
        super().__init__()
        self.loaded, self._preprocess, self._around = loaded, preprocess, around

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """`(n,)` strings to ragged `(n, None)` int32, without start and end."""
        pieces = _ragged(self._preprocess(texts))
        return pieces[:, self._around : -self._around] if self._around else pieces


def _ragged(outputs: dict) -> tf.RaggedTensor:
    """`(n, length)` ids and mask to the ids that are no padding."""
    ids, mask = outputs["input_word_ids"], outputs["input_mask"]
    return tf.ragged.boolean_mask(ids, mask > 0)


def _marks(preprocess: Callable, said: str) -> tuple[tuple, tuple, int]:
    """The tokens before and behind every text, and the one behind its end."""
    outputs = preprocess(tf.constant(["", "a"]))
    empty, one = _ragged(outputs).to_list()
    behind = tf.boolean_mask(outputs["input_word_ids"], outputs["input_mask"] == 0)
    pad = int(behind[0]) if len(behind) else 0
    if not empty:
        return (), (), pad
    if len(empty) != 2 or [one[0], one[-1]] != empty:
        raise InputError(
            f"{said} makes {empty} of an empty text and {one} of 'a'. Expected are one "
            "token before a text and one behind it, or none at all."
        )
    return (empty[0],), (empty[1],), pad


def _check_text_outputs(layer: SavedModel, what: str) -> None:
    shapes = layer.output_shapes
    ranks = {"sequence_output": 3, "pooled_output": 2}
    wrong = [
        f"{name} {tuple(shapes.get(name, ())) or 'missing'}"
        for name, rank in ranks.items()
        if (name in shapes or rank == 3) and (len(shapes.get(name, ())) != rank)
    ]
    if wrong:
        raise InputError(
            f"{what} gives {', '.join(sorted(shapes))}; wrong: {', '.join(wrong)}. A "
            "text encoder gives sequence_output (n, length, dim), and pooled_output "
            "(n, dim) if it has a pooler."
        )


def _refuse_weights(what: str, setting: str, weights: str) -> None:
    if weights not in DEFAULTS:
        raise InputError(
            f"{setting} is {weights!r}, but {what} is a SavedModel, which brings its "
            "own weights. Leave it empty: ''."
        )
