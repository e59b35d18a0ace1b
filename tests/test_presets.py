"""Presets as KerasHub writes them give what KerasHub computes, without a download."""

from pathlib import Path

import keras_hub
import numpy as np
import pytest
from golden_pairs import LENGTH, PAIRS, folder, golden, pixels

from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.clip_families import CLIP_FAMILIES
from twinlens.encoders.clip_text import _tokenizer

SIZE = 24  # pixels
VOCABULARY = 600  # at least the tokens of each folder


def save_preset(home: Path, *parts) -> str:
    for part in parts:
        part.save_to_preset(str(home))
    return str(home)


def pictures():
    models = keras_hub.models
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16}
    sizes |= {"image_shape": (SIZE, SIZE, 3), "patch_size": 8}
    inner = {"intermediate_dim": 24}
    return {
        "vit": lambda: models.ViTBackbone(**sizes, mlp_dim=24),
        "deit": lambda: models.DeiTBackbone(**sizes, **inner),
        "dinov2": lambda: models.DINOV2Backbone(
            **sizes,
            **inner,
            num_register_tokens=2,
            position_embedding_shape=(SIZE, SIZE),
        ),
        "dinov3": lambda: models.DINOV3Backbone(**sizes, **inner),
    }


@pytest.mark.parametrize("kind", pictures())
def test_a_picture_preset_gives_what_keras_hub_gives(kind, tmp_path):
    backbone = pictures()[kind]()
    for number, weight in enumerate(backbone.trainable_weights):
        random = np.random.default_rng(number)
        weight.assign(random.normal(0, 0.3, weight.shape))
    if kind == "dinov2":  # what it keeps beside those in use
        places = backbone.embeddings
        places.position_embeddings.assign(places.interpolated_position_embeddings)
    classes = {"vit": "ViT", "deit": "DeiT", "dinov2": "DINOV2", "dinov3": "DINOV3"}
    converter = getattr(keras_hub.layers, f"{classes[kind]}ImageConverter")(
        image_size=(SIZE, SIZE), scale=[0.02, 0.03, 0.04], offset=[-1, -2, -3]
    )
    home = save_preset(tmp_path / "preset", backbone, converter)
    seen = pixels(SIZE) * [0.02, 0.03, 0.04] + [-1, -2, -3]
    name = next(iter(backbone.input)) if isinstance(backbone.input, dict) else ""
    seen = seen.astype("float32")
    expected = backbone({name: seen} if name else seen, training=False)
    found = image_encoder(kind, home).model(pixels(SIZE), training=False)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-3, atol=1e-4)


def pair_of(name):
    """KerasHub's backbone and image converter."""
    sizes = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 24}
    vision = sizes | {"patch_size": 8, "image_shape": (SIZE, SIZE, 3)}
    words = sizes | {"embedding_dim": 16, "max_sequence_length": LENGTH}
    classes = CLIP_FAMILIES[name].classes
    towers = (
        getattr(keras_hub.models, f"{classes}VisionEncoder")(**vision),
        getattr(keras_hub.models, f"{classes}TextEncoder")(
            vocabulary_size=VOCABULARY, **words
        ),
    )
    dim = {} if name == "siglip" else {"projection_dim": 12}
    backbone = getattr(keras_hub.models, f"{classes}Backbone")(*towers, **dim)
    converter = getattr(keras_hub.layers, f"{classes}ImageConverter")
    return backbone, converter(image_size=(SIZE, SIZE), scale=1 / 255)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_preset_gives_what_keras_hub_gives(name, tmp_path):
    backbone, converter = pair_of(name)
    for number, weight in enumerate(backbone.trainable_weights):
        random = np.random.default_rng(number)
        weight.assign(random.normal(0, 0.3, weight.shape))
    if name == "clip":
        layer = backbone.vision_encoder.embedding
        layer.position_ids.assign(np.arange(layer.num_positions)[None])  # were zeros
        backbone.text_encoder.layer_norm.epsilon = 1e-5  # the original's
    home = str(tmp_path / "preset")
    tokenizer = _tokenizer(CLIP_FAMILIES[name], Path(folder(name)))
    for part in (backbone, converter, tokenizer):
        part.save_to_preset(home)
    found = image_encoder(name, home)
    expected = backbone.get_vision_embeddings(pixels(SIZE) / 255)
    near = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(found.model(pixels(SIZE)), expected, **near)
    texts = text_encoder(name, home, sequence_length=LENGTH)
    ids, lengths = golden(name)["ids"], golden(name)["lengths"]
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    inputs = {"token_ids": ids, "padding_mask": mask.astype("int32")}
    expected = backbone.get_text_embeddings(ids)
    np.testing.assert_allclose(texts.model(inputs), expected, **near)
    own = text_encoder(name, folder(name), sequence_length=LENGTH)
    assert texts.description["vocabulary"] == own.description["vocabulary"]
    head = getattr(backbone, CLIP_FAMILIES[name].head)
    scale, bias = found.similarity
    assert scale == pytest.approx(np.exp(head.logit_scale), rel=1e-5)
    assert (bias is None) == (name != "siglip")
