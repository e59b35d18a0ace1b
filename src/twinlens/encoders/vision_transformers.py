"""Vision transformers by KerasHub preset or local Hugging Face folder.

The blocks are KerasHub's. The tokens before them are our own layer: of KerasHub's, some
cannot be saved, one loses what fine-tuning taught its positions. Folders are read here:
KerasHub's converters want one prefix, and set the epsilons of norms themselves.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from twinlens.encoders.checkpoint import Checkpoint
from twinlens.encoders.folders import (
    check_folder,
    is_hugging_face,
    read_json,
    reading_sizes,
)
from twinlens.encoders.network import PictureNetwork, truncated
from twinlens.encoders.positions import resized
from twinlens.encoders.presets import from_preset, refuse_random
from twinlens.encoders.scaling import FILE, crop_size, folder_scaling, preset_scaling
from twinlens.encoders.transformer import (
    PatchTokens,
    block_end,
    check_activation,
    copy_parts,
    fill_parts,
    picture_transformer,
)
from twinlens.encoders.vision_families import (
    DEFAULTS,
    DINOV2_BLOCK,
    DINOV3_BLOCK,
    SETTING,
    VISION_FAMILIES,
    VisionFamily,
)
from twinlens.errors import InputError

BIASED = ("query", "key", "value", "proj", "mlp")  # maps of DINOv3's blocks


def vision_transformer(
    name: str, weights: str, taps: tuple[str, ...], image_size: int
) -> PictureNetwork:
    """A vision transformer with its scaling.

    Args:
        name: one of `VISION_FAMILIES`.
        weights: KerasHub preset, or a local folder of Hugging Face or KerasHub.
        taps: `"layer_0"` and so on; an empty name is the end, after the last norm.
        image_size: pixels a side, of DINOv2 and DINOv3; the others know one size.

    Raises:
        InputError: unknown layer; size that the network cannot take; weights that
            cannot be had or belong to another network.
    """
    family = VISION_FAMILIES[name]
    refuse_random(name, weights, SETTING)
    if is_hugging_face(weights, SETTING):
        opened = _from_folder(name, family, Path(weights), image_size)
    else:
        opened = _from_preset(name, family, weights, image_size)
    network, tokens, scaling, depth = opened
    return PictureNetwork(
        truncated(network, taps),
        scaling,
        network.input_shape[1],
        block_end(depth, "norm"),
        prefix_tokens=tokens.prefix_tokens + tokens.registers,
        pooling="cls",
    )


def _build(name: str, family: VisionFamily, config: dict[str, Any]) -> tuple:
    """A network with its tokens and blocks, from random weights."""
    check_activation(config["hidden_act"], f"{SETTING}: the network")
    size, patch = config["image_size"], config["patch_size"]
    if size % patch:
        raise InputError(
            f"image_encoder.image_size is {size}, but {name} cuts pictures into "
            f"patches of {patch} pixels. Take a multiple of {patch}."
        )
    tokens = PatchTokens(
        patch,
        config["hidden_size"],
        len(family.learned),
        config["num_register_tokens"],
        family.has_positions,
        name="tokens",
    )
    blocks = family.blocks(config)
    last = layers.LayerNormalization(epsilon=config["layer_norm_eps"], name="norm")
    rotation = None if family.has_positions else _rotation(config)
    model = picture_transformer(name, size, tokens, blocks, (None, last), rotation)
    return model, tokens, blocks, last


def _rotation(config: dict[str, Any]) -> layers.Layer:
    from keras_hub.src.models.dinov3.dinov3_layers import DINOV3RopePositionEmbedding

    return DINOV3RopePositionEmbedding(
        config["hidden_size"],
        config["num_attention_heads"],
        config["rope_theta"],
        config["patch_size"],
        name="rotation",
    )


# === From a Hugging Face folder ===


def _from_folder(
    name: str, family: VisionFamily, folder: Path, image_size: int
) -> tuple:
    file = folder / "config.json"
    said = read_json(file, SETTING).get("model_type") if file.is_file() else None
    kind = said if said in family.model_types else family.model_types[0]
    config = DEFAULTS | check_folder(
        folder, kind, (FILE,), SETTING, tuple(VISION_FAMILIES)
    )
    trained = config["image_size"]
    if name.startswith("dino"):
        config["image_size"] = image_size or crop_size(folder, SETTING) or trained
    config |= config.get("rope_parameters") or {}  # of newer versions
    with reading_sizes(folder, SETTING):
        if "mlp_ratio" in config:
            config["intermediate_size"] = int(
                config["hidden_size"] * config["mlp_ratio"]
            )
        network, tokens, blocks, last = _build(name, family, config)
    prefixes = (f"{family.model_types[0]}.",)
    found = Checkpoint(folder, "embeddings.cls_token", prefixes, SETTING)
    _fill_tokens(tokens, found, family, trained // config["patch_size"])
    table = family.block | _mlp(config, family)
    for number, block in enumerate(blocks):
        fill_parts(block, found, family.layer.format(number), table)
    found.fill(last, family.norm)
    scaling = folder_scaling(folder, f"{name}_scale", SETTING)
    return network, tokens, scaling, len(blocks)


def _mlp(config: dict[str, Any], family: VisionFamily) -> dict[str, str]:
    """DINO's parts behind the attention, which differ with its settings."""
    if family.block is DINOV2_BLOCK:
        swiglu = config["use_swiglu_ffn"]
        parts = ("weights_in", "weights_out") if swiglu else ("fc1", "fc2")
    elif family.block is DINOV3_BLOCK:
        gate = ("gate_proj",) if config["use_gated_mlp"] else ()
        parts = (*gate, "up_proj", "down_proj")
    else:
        return {}
    return {f"mlp.{part}": f"mlp.{part}" for part in parts}


def _fill_tokens(
    tokens: PatchTokens, found: Checkpoint, family: VisionFamily, trained: int
) -> None:
    found.fill(tokens.patches, family.patches)
    names = [f"embeddings.{name}" for name in family.learned]
    learned = np.concatenate([found.tensor(name) for name in names], axis=1)
    found.assign(tokens.prefix, learned, names[0])
    if tokens.register is not None:
        name = "embeddings.register_tokens"
        found.assign(tokens.register, found.tensor(name), name)
    if tokens.position is not None:
        name = "embeddings.position_embeddings"
        values, front = found.tensor(name), len(names)
        if values.shape[1] == front + trained**2:  # else let `assign` complain
            values = resized(values, front, tokens.grid, tokens.registers > 0)
        found.assign(tokens.position, values, name)


# === From a preset ===


def _from_preset(
    name: str, family: VisionFamily, weights: str, image_size: int
) -> tuple:
    roles = ("Backbone", "ImageConverter")
    classes = {role: family.classes + role for role in roles}
    found = from_preset(classes, weights, SETTING)
    backbone = found["Backbone"]
    config = _config_of(backbone)
    trained = config["image_size"]
    if name.startswith("dino"):
        config["image_size"] = image_size or trained
    network, tokens, blocks, last = _build(name, family, config)
    _copy_tokens(tokens, backbone, family)
    theirs = getattr(backbone, "encoder", None) or backbone.layers[2]
    own = getattr(theirs, "encoder_layers", None) or theirs.layers
    for block, other in zip(blocks, own, strict=True):
        copy_parts(block, other, family.theirs)
    end = theirs.layer_norm if family.theirs else backbone.layernorm
    last.set_weights(end.get_weights())
    scaling = preset_scaling(found["ImageConverter"], f"{name}_scale")
    return network, tokens, scaling, len(blocks)


def _config_of(backbone) -> dict[str, Any]:
    """A backbone's size in the words of `config.json`."""
    said = backbone.get_config()
    patch = said["patch_size"]
    return DEFAULTS | {
        "hidden_size": said["hidden_dim"],
        "num_hidden_layers": said["num_layers"],
        "num_attention_heads": said["num_heads"],
        "intermediate_size": said.get("intermediate_dim") or said["mlp_dim"],
        "image_size": said["image_shape"][0],
        "patch_size": patch if isinstance(patch, int) else patch[0],
        "hidden_act": said.get("hidden_activation", "gelu"),
        "layer_norm_eps": said.get("layer_norm_epsilon")
        or said.get("layer_norm_eps", 1e-6),
        "num_register_tokens": said.get("num_register_tokens", 0),
        "use_swiglu_ffn": said.get("use_swiglu_ffn", False),
        "use_gated_mlp": said.get("use_gated_mlp", False),
        "rope_theta": said.get("rope_theta"),
        **{f"{n}_bias": said.get(f"use_{n}_bias") for n in BIASED},
    }


def _copy_tokens(tokens: PatchTokens, backbone, family: VisionFamily) -> None:
    theirs = getattr(backbone, "embeddings", None) or backbone.layers[1]
    patches = getattr(theirs, "patch_embedding", None)
    patches = patches or theirs.patch_embeddings.projection
    tokens.patches.set_weights(patches.get_weights())
    learned = [getattr(theirs, name) for name in family.theirs_tokens]
    tokens.prefix.assign(keras.ops.concatenate(learned, axis=1))
    if tokens.register is not None:
        tokens.register.assign(theirs.register_tokens)
    if tokens.position is not None:
        position = getattr(theirs, "position_embeddings", None)
        position = theirs.position_embedding if position is None else position
        position = getattr(position, "embeddings", position).numpy()
        front = len(family.learned)
        values = position.reshape(1, -1, position.shape[-1])
        smooth = getattr(theirs, "antialias_in_interpolation", False)
        tokens.position.assign(resized(values, front, tokens.grid, smooth))
