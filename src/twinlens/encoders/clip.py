"""CLIP, MetaCLIP 2 and SigLIP as picture encoders.

KerasHub converts folders of MetaCLIP 2 only, and with epsilons of its own. So folders
are read here, and presets' weights copied, into one network for all of them.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from twinlens.encoders.checkpoint import Checkpoint
from twinlens.encoders.clip_families import (
    BLOCK,
    CLIP_FAMILIES,
    LAYER,
    ClipFamily,
    config_of,
    open_folder,
)
from twinlens.encoders.folders import is_hugging_face
from twinlens.encoders.network import PictureNetwork, truncated
from twinlens.encoders.pooling import SpatialPooling
from twinlens.encoders.presets import from_preset, refuse_random
from twinlens.encoders.scaling import FILE, folder_scaling, preset_scaling
from twinlens.encoders.transformer import (
    ACTIVATIONS,
    PatchTokens,
    Size,
    block_end,
    copy_parts,
    fill_parts,
    norm,
    picture_transformer,
    pre_norm_blocks,
)

SETTING = "image_encoder.weights"
POOLING_HEAD = {  # of KerasHub's layer, to SigLIP's names
    "probe": "probe",
    "attention.output_dense": "attention.out_proj",
    "layer_norm": "layernorm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def clip_pictures(
    name: str, weights: str, taps: tuple[str, ...], image_size: int
) -> PictureNetwork:
    """The picture tower of a pair.

    Args:
        name: one of `CLIP_FAMILIES`.
        weights: KerasHub preset, or a local folder of Hugging Face or KerasHub.
        taps: `"layer_0"` and so on; an empty name is the end, after the last norm.
            Only the end has a projection.
        image_size: not used: a checkpoint knows one size.

    Raises:
        InputError: unknown layer; weights that cannot be had or belong to another
            network.
    """
    family = CLIP_FAMILIES[name]
    refuse_random(name, weights, SETTING)
    if is_hugging_face(weights, SETTING):
        tower, scaling, similarity = _from_folder(name, family, Path(weights))
    else:
        tower, scaling, similarity = _from_preset(name, family, weights)
    states = "avg" if family.is_siglip else "cls"
    return PictureNetwork(
        truncated(tower.model, taps),
        scaling,
        tower.model.input_shape[1],
        block_end(len(tower.blocks), tower.own[-1].name if tower.own else "norm"),
        prefix_tokens=tower.tokens.prefix_tokens,
        own=() if any(taps) else tower.own,
        pooling="projection" if tower.own and not any(taps) else states,
        similarity=similarity,
    )


class _Tower:
    """A picture tower from random weights, with its parts."""

    def __init__(
        self, name: str, family: ClipFamily, config: dict[str, Any], dim: int
    ) -> None:
        size, siglip = Size.of(config), family.is_siglip
        self.tokens = PatchTokens(
            config["patch_size"],
            size.dim,
            prefix_tokens=0 if siglip else 1,
            use_bias=siglip,
            name="tokens",
        )
        self.before = None if siglip else norm(size, "norm_before")
        self.blocks = pre_norm_blocks(size)
        self.last = norm(size, "norm")
        self.model = picture_transformer(
            name,
            config["image_size"],
            self.tokens,
            self.blocks,
            (self.before, self.last),
        )
        if not siglip:
            dense = layers.Dense(dim, use_bias=False, name=f"{name}_projection")
            dense.build((None, size.dim))
            self.own = (SpatialPooling("cls", 1, name=f"{name}_class"), dense)
        elif config.get("vision_use_head", True):
            self.own = (_attention_pooling(size, f"{name}_head"),)
        else:
            self.own = ()


def _attention_pooling(size: Size, name: str) -> layers.Layer:
    from keras_hub.src.models.siglip.siglip_layers import (
        SigLIPMultiHeadAttentionPooling,
    )

    activation = ACTIVATIONS[size.activation]
    layer = SigLIPMultiHeadAttentionPooling(
        size.dim, size.mlp_dim, size.num_heads, activation, size.epsilon, name=name
    )
    layer.build((None, None, size.dim))
    return layer


# === From a Hugging Face folder ===


def _from_folder(name: str, family: ClipFamily, folder: Path) -> tuple:
    opened = open_folder(name, folder, "vision", (FILE,), SETTING)
    found = opened.found
    tower = _Tower(name, family, opened.config, opened.projection_dim)
    _fill_tokens(tower.tokens, found)
    if tower.before is not None:
        found.fill(tower.before, "vision_model.pre_layrnorm")  # misspelled there
    for number, block in enumerate(tower.blocks):
        fill_parts(block, found, LAYER.format("vision", number), BLOCK)
    found.fill(tower.last, "vision_model.post_layernorm")
    if not family.is_siglip:
        found.fill(tower.own[-1], "visual_projection")
    elif tower.own:
        _fill_head(tower.own[0], found)
    bias = found.tensor("logit_bias").item() if "logit_bias" in found else None
    similarity = (float(np.exp(found.tensor("logit_scale").item())), bias)
    return tower, folder_scaling(folder, f"{name}_scale", SETTING), similarity


def _fill_tokens(tokens: PatchTokens, found: Checkpoint) -> None:
    found.fill(tokens.patches, "vision_model.embeddings.patch_embedding")
    if tokens.prefix is not None:
        name = "vision_model.embeddings.class_embedding"
        found.assign(tokens.prefix, found.tensor(name), name)
    name = "vision_model.embeddings.position_embedding.weight"
    found.assign(tokens.position, found.tensor(name), name)


def _fill_head(layer: layers.Layer, found: Checkpoint) -> None:
    """SigLIP's pooling, whose checkpoint stacks query, key and value."""
    prefix = "vision_model.head."
    fill_parts(layer, found, prefix, POOLING_HEAD)
    maps = [getattr(layer.attention, f"{n}_dense") for n in ("query", "key", "value")]
    for kind in ("weight", "bias"):
        name = f"{prefix}attention.in_proj_{kind}"
        for dense, value in zip(maps, np.split(found.tensor(name), 3), strict=True):
            variable = dense.kernel if kind == "weight" else dense.bias
            found.assign(variable, value.T, name)


# === From a preset ===


def _from_preset(name: str, family: ClipFamily, weights: str) -> tuple:
    roles = ("Backbone", "ImageConverter")
    classes = {role: family.classes + role for role in roles}
    found = from_preset(classes, weights, SETTING)
    backbone = found["Backbone"]
    theirs = backbone.vision_encoder
    dim = getattr(backbone, "projection_dim", None)
    tower = _Tower(name, family, config_of(theirs), dim)
    embedding = theirs.embedding
    tower.tokens.patches.set_weights(embedding.patch_embedding.get_weights())
    tower.tokens.position.assign(embedding.position_embedding.embeddings[None])
    for block, other in zip(tower.blocks, theirs.encoder_layers, strict=True):
        copy_parts(block, other, family.theirs)
    if family.is_siglip:
        copy_parts(tower.last, theirs.post_layer_norm)
        copy_parts(tower.own[0], theirs.head)
    else:
        tower.tokens.prefix.assign(embedding.class_embedding[None, None])
        copy_parts(tower.before, theirs.pre_layer_norm)
        after = getattr(backbone, "vision_post_layer_norm", None)  # MetaCLIP 2
        copy_parts(tower.last, after or theirs.layer_norm)
        copy_parts(tower.own[-1], backbone.vision_projection)
    head = getattr(backbone, family.head)
    bias = float(head.logit_bias) if family.is_siglip else None
    similarity = (float(keras.ops.exp(head.logit_scale)), bias)
    scaling = preset_scaling(found["ImageConverter"], f"{name}_scale")
    return tower, scaling, similarity
