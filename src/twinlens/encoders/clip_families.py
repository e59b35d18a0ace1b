"""CLIP and its relatives: sizes, and what checkpoints and KerasHub call the parts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlens.encoders.checkpoint import Checkpoint
from twinlens.encoders.folders import check_folder
from twinlens.encoders.transformer import check_activation

BLOCK = {  # of KerasHub's block, to the checkpoint's names
    "layer_norm1": "layer_norm1",
    "self_attn.query_dense": "self_attn.q_proj",
    "self_attn.key_dense": "self_attn.k_proj",
    "self_attn.value_dense": "self_attn.v_proj",
    "self_attn.output_dense": "self_attn.out_proj",
    "layer_norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
CLIP_PARTS = ("layer_norm_1", "attention", "layer_norm_2", "dense_1", "dense_2")
LAYER = "{}_model.encoder.layers.{}."
ANCHORS = {
    "vision": "vision_model.embeddings.patch_embedding.weight",
    "text": "text_model.embeddings.token_embedding.weight",
}


def _defaults(act: str, epsilon: float, vision: dict, text: dict) -> dict[str, dict]:
    """What `transformers` assumes where `config.json` is silent."""
    layer = {"hidden_act": act, "layer_norm_eps": epsilon, "num_hidden_layers": 12}
    base = layer | {"hidden_size": 768, "num_attention_heads": 12}
    base |= {"intermediate_size": 3072, "image_size": 224}
    return {"vision": base | vision, "text": base | text}


OPENAI = _defaults(
    "quick_gelu",
    1e-5,
    {"patch_size": 32},
    {
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
    },
)
SIGLIP = _defaults(
    "gelu_pytorch_tanh",
    1e-6,
    {"patch_size": 16, "vision_use_head": True},
    {"vocab_size": 32000, "max_position_embeddings": 64},
)


@dataclass(frozen=True)
class ClipFamily:
    """One kind of pair.

    Attributes:
        classes: KerasHub's prefix of `…Backbone`, `…Tokenizer`, `…ImageConverter`.
        vocabulary: files of the tokenizer.
        defaults: see `_defaults`.
        theirs: what KerasHub's own block calls the parts; empty where it is the same.
        head: where KerasHub keeps the scale.
    """

    classes: str
    vocabulary: tuple[str, ...]
    head: str
    defaults: dict[str, dict] = field(default_factory=lambda: OPENAI)
    theirs: tuple[str, ...] = CLIP_PARTS

    @property
    def is_siglip(self) -> bool:
        """Whether it has SigLIP's heads, and no class token."""
        return self.classes == "SigLIP"


CLIP_FAMILIES = {
    "clip": ClipFamily("CLIP", ("vocab.json", "merges.txt"), "clip_head"),
    "metaclip_2": ClipFamily(
        "MetaCLIP2", ("sentencepiece.bpe.model",), "metaclip_2_head"
    ),
    "siglip": ClipFamily("SigLIP", ("spiece.model",), "siglip_head", SIGLIP, ()),
}


@dataclass(frozen=True)
class Folder:
    """A tower of a Hugging Face folder.

    Attributes:
        config: what `config.json` says of the tower.
        projection_dim: of the shared space.
        found: the tensors.
    """

    config: dict[str, Any]
    projection_dim: int
    found: Checkpoint


def open_folder(
    name: str, folder: Path, tower: str, needed: tuple[str, ...], setting: str
) -> Folder:
    """Looks through a folder before anything is built.

    Args:
        name: one of `CLIP_FAMILIES`.
        folder: to read.
        tower: `"vision"` or `"text"`.
        needed: files beside configuration and weights.
        setting: whose value the folder is.

    Raises:
        InputError: names what is missing, or what the folder holds instead.
    """
    others = tuple(CLIP_FAMILIES)
    whole = check_folder(folder, name, needed, setting, others)
    config = CLIP_FAMILIES[name].defaults[tower] | whole.get(f"{tower}_config", {})
    check_activation(config["hidden_act"], f"{setting}: {folder / 'config.json'}")
    found = Checkpoint(folder, ANCHORS[tower], (), setting)
    return Folder(config, whole.get("projection_dim") or 512, found)


def config_of(encoder) -> dict[str, Any]:
    """The size of KerasHub's encoder in the words of `config.json`."""
    said = encoder.get_config()
    act = said["intermediate_activation"]
    return {
        "hidden_size": said["hidden_dim"],
        "num_hidden_layers": said["num_layers"],
        "num_attention_heads": said["num_heads"],
        "intermediate_size": said["intermediate_dim"],
        "hidden_act": {"gelu_approximate": "gelu_pytorch_tanh"}.get(act, act),
        "layer_norm_eps": said.get("layer_norm_epsilon", 1e-5),
        "image_size": (said.get("image_shape") or [0])[0],
        "patch_size": said.get("patch_size"),
        "vocab_size": said.get("vocabulary_size"),
        "max_position_embeddings": said.get("max_sequence_length"),
    }
