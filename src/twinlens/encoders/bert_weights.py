"""Weights of BERT and its relatives, from a checkpoint into KerasHub's networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from twinlens.encoders.checkpoint import Checkpoint
from twinlens.errors import InputError

SETTING = "text_encoder.weights"
ANCHOR = "embeddings.word_embeddings.weight"  # every network of the family has it


@dataclass(frozen=True)
class TensorNames:
    """What a checkpoint calls the parts of a network.

    Attributes:
        layer: pattern of a transformer layer's name.
        query, key, value, output, attention_norm, up, down, norm: in a layer.
        pooler: the trained layer on the first token, where there is one.
        projection: from the width of the embeddings to that of the layers.
        activation: what `config.json` calls the layers' activation.
    """

    layer: str = "encoder.layer.{}"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"
    pooler: str = ""
    projection: str = "embeddings_project"
    activation: str = "hidden_act"


DISTILBERT = TensorNames(
    "transformer.layer.{}",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
    activation="activation",
)
ALBERT = TensorNames(
    "encoder.albert_layer_groups.{}.albert_layers.{}",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    output="attention.dense",
    attention_norm="attention.LayerNorm",
    up="ffn",
    down="ffn_output",
    norm="full_layer_layer_norm",
    pooler="pooler",
    projection="encoder.embedding_hidden_mapping_in",
)


@keras.saving.register_keras_serializable(package="twinlens")
def gelu_tanh(x):
    """GELU by a hyperbolic tangent (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {  # by Hugging Face's name
    "gelu": keras.activations.gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
}


def fill_bert(
    backbone: keras.Model, folder: Path, config: dict[str, Any], names: TensorNames
) -> bool:
    """Copies a Hugging Face folder's weights into a backbone of KerasHub.

    Args:
        backbone: of the sizes that `config.json` says.
        folder: with `model.safetensors`.
        config: what `config.json` says.
        names: what the checkpoint calls its tensors.

    Returns:
        Whether the network has a trained pooler.

    Raises:
        InputError: a tensor is missing or has another size; unknown activation.
    """
    activation = config.get(names.activation, "gelu")
    if activation not in ACTIVATIONS:
        raise InputError(
            f"{SETTING} is the folder {folder}, whose activation is {activation!r}. "
            f"Known: {', '.join(ACTIVATIONS)}."
        )
    prefixes = ("bert.", "distilbert.", "roberta.", "albert.", "electra.")
    found = Checkpoint(folder, ANCHOR, prefixes, SETTING)
    _fill_embeddings(backbone, found, names, config)
    for layer, name in _layers(backbone, names):
        _fill_layer(layer, found, name, names)
        layer.activation = ACTIVATIONS[activation]
        layer._feedforward_intermediate_dense.activation = ACTIVATIONS[activation]
    if not names.pooler or f"{names.pooler}.weight" not in found:
        return False
    found.fill(backbone.pooled_dense, names.pooler)
    return True


def first_position(config: dict[str, Any]) -> int:
    """RoBERTa's positions count from behind the padding's token."""
    return config["pad_token_id"] + 1 if "roberta" in config["model_type"] else 0


def _fill_embeddings(
    backbone, found: Checkpoint, names: TensorNames, config: dict[str, Any]
) -> None:
    segments = "embeddings.token_type_embeddings.weight"
    place = "embeddings.position_embeddings.weight"
    positions = found.tensor(place)[first_position(config) :]
    if hasattr(backbone, "segment_embedding"):
        table = backbone.position_embedding.position_embeddings
        values = found.tensor(segments)
        found.assign(backbone.segment_embedding.embeddings, values, segments)
    else:
        table = backbone.embeddings.position_embedding.position_embeddings
        if segments in found:  # one segment: every position has it
            positions = positions + found.tensor(segments)[0]
    found.assign(table, positions, place)
    found.assign(backbone.token_embedding.embeddings, found.tensor(ANCHOR), ANCHOR)
    found.fill(backbone.embeddings_layer_norm, "embeddings.LayerNorm")
    if hasattr(backbone, "embeddings_projection"):
        found.fill(backbone.embeddings_projection, names.projection)


def _layers(backbone, names: TensorNames) -> list[tuple[layers.Layer, str]]:
    """Each transformer layer with its name in the checkpoint."""
    return [
        (layer, names.layer.format(*place))
        for place, layer in _placed(backbone.transformer_layers)
    ]


def _placed(nested: list) -> list[tuple[tuple[int, ...], layers.Layer]]:
    """Layers with their numbers; ALBERT's stand in groups."""
    found = []
    for number, each in enumerate(nested):
        inner = _placed(each) if isinstance(each, list) else [((), each)]
        found += [((number, *place), layer) for place, layer in inner]
    return found


def _fill_layer(layer, found: Checkpoint, name: str, names: TensorNames) -> None:
    attention = layer._self_attention_layer
    parts = {
        names.query: attention.query_dense,
        names.key: attention.key_dense,
        names.value: attention.value_dense,
        names.output: attention.output_dense,
        names.attention_norm: layer._self_attention_layer_norm,
        names.up: layer._feedforward_intermediate_dense,
        names.down: layer._feedforward_output_dense,
        names.norm: layer._feedforward_layer_norm,
    }
    for part, target in parts.items():
        found.fill(target, f"{name}.{part}")
