"""Kinds of vision transformers: their blocks, and what checkpoints call the parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import layers

from twinlens.encoders.transformer import ACTIVATIONS, Size, pre_norm_blocks
from twinlens.errors import InputError

SETTING = "image_encoder.weights"
ATTENTION = {  # by KerasHub's part of a block
    "query_dense": "attention.attention.query",
    "key_dense": "attention.attention.key",
    "value_dense": "attention.attention.value",
    "output_dense": "attention.output.dense",
}
VIT_BLOCK = {
    "layer_norm1": "layernorm_before",
    **{f"self_attn.{own}": name for own, name in ATTENTION.items()},
    "layer_norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
DINO_BLOCK = {
    name: name
    for name in ("norm1", "norm2", "layer_scale1.lambda1", "layer_scale2.lambda1")
}
DINOV2_BLOCK = DINO_BLOCK | {
    f"attention.attention.{own}": name for own, name in ATTENTION.items()
}
DINOV3_BLOCK = DINO_BLOCK | {
    "attention.query_dense": "attention.q_proj",
    "attention.key_dense": "attention.k_proj",
    "attention.value_dense": "attention.v_proj",
    "attention.output_dense": "attention.o_proj",
}
DINOV2_TOLD = ("gelu", 1e-6)  # KerasHub's blocks have these built in
DEFAULTS = {  # what older folders do not say
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "num_register_tokens": 0,
    "use_swiglu_ffn": False,
    "use_gated_mlp": False,
}


def _vit_blocks(config: dict[str, Any]) -> list[layers.Layer]:
    return pre_norm_blocks(Size.of(config))


def _dinov2_blocks(config: dict[str, Any]) -> list[layers.Layer]:
    from keras_hub.src.models.dinov2.dinov2_layers import DINOV2Layer

    told = (config["hidden_act"], config["layer_norm_eps"])
    if told != DINOV2_TOLD:
        raise InputError(
            f"{SETTING}: config.json of this DINOv2 has hidden_act and layer_norm_eps "
            f"{told}; only {DINOV2_TOLD} is known, which all published ones have."
        )
    return [
        DINOV2Layer(
            config["hidden_size"],
            config["num_attention_heads"],
            config["intermediate_size"],
            use_swiglu_ffn=config["use_swiglu_ffn"],
            name=f"layer_{number}",
        )
        for number in range(config["num_hidden_layers"])
    ]


def _dinov3_blocks(config: dict[str, Any]) -> list[layers.Layer]:
    from keras_hub.src.models.dinov3.dinov3_layers import DINOV3Layer

    return [
        DINOV3Layer(
            config["hidden_size"],
            config["num_attention_heads"],
            config["intermediate_size"],
            hidden_activation=ACTIVATIONS[config["hidden_act"]],
            use_gated_mlp=config["use_gated_mlp"],
            use_query_bias=config["query_bias"],
            use_key_bias=config["key_bias"],
            use_value_bias=config["value_bias"],
            use_proj_bias=config["proj_bias"],
            use_mlp_bias=config["mlp_bias"],
            layer_norm_eps=config["layer_norm_eps"],
            name=f"layer_{number}",
        )
        for number in range(config["num_hidden_layers"])
    ]


@dataclass(frozen=True)
class VisionFamily:
    """One kind of vision transformer.

    Attributes:
        classes: KerasHub's prefix of `…Backbone` and `…ImageConverter`.
        model_types: in `config.json`.
        blocks: from `config.json` to transformer layers.
        block: from their parts to the checkpoint's names.
        layer: pattern of a layer's name there.
        patches: what the checkpoint calls the map of patches.
        norm: and the last normalisation.
        learned: learned tokens in front that have a position.
        has_positions: whether positions are learned.
        theirs: what KerasHub's own block calls the parts; empty where it is the same.
        theirs_tokens: what KerasHub's calls the learned tokens.
    """

    classes: str
    model_types: tuple[str, ...]
    blocks: Callable[[dict], list[layers.Layer]]
    block: dict[str, str]
    layer: str = "encoder.layer.{}."
    patches: str = "embeddings.patch_embeddings.projection"
    norm: str = "layernorm"
    learned: tuple[str, ...] = ("cls_token",)
    has_positions: bool = True
    theirs: tuple[str, ...] = ()
    theirs_tokens: tuple[str, ...] = ("cls_token",)


VISION_FAMILIES = {
    "vit": VisionFamily(
        "ViT",
        ("vit",),
        _vit_blocks,
        VIT_BLOCK,
        theirs=("layer_norm_1", "mha", "layer_norm_2", "mlp.dense_1", "mlp.dense_2"),
        theirs_tokens=("class_token",),
    ),
    "deit": VisionFamily(
        "DeiT",
        ("deit",),
        _vit_blocks,
        VIT_BLOCK,
        learned=("cls_token", "distillation_token"),
        theirs=("layer_norm_1", "mha", "layer_norm_2", "mlp.dense")
        + ("output_layer.dense",),
        theirs_tokens=("class_token", "distillation_token"),
    ),
    "dinov2": VisionFamily(
        "DINOV2", ("dinov2", "dinov2_with_registers"), _dinov2_blocks, DINOV2_BLOCK
    ),
    "dinov3": VisionFamily(
        "DINOV3",
        ("dinov3_vit",),
        _dinov3_blocks,
        DINOV3_BLOCK,
        layer="layer.{}.",
        patches="embeddings.patch_embeddings",
        norm="norm",
        has_positions=False,
    ),
}
