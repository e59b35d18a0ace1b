"""Vision transformers and pairs: `transformers`' values, wrong folders, blocks."""

import functools
import json
import shutil
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from golden_pairs import FOLDERS, LENGTH, PAIRS, TEXTS, folder, golden, pixels

from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.base import blocks
from twinlens.encoders.image import open_network
from twinlens.errors import InputError

KINDS = {
    "vit": "vit",
    "deit": "deit",
    "dinov2": "dinov2",
    "dinov2_registers": "dinov2",
    "dinov3": "dinov3",
}
SIZE, OTHER = 24, 40  # pixels: that of the checkpoint, and another
image = functools.cache(image_encoder)
text = functools.cache(functools.partial(text_encoder, sequence_length=LENGTH))


def states(kind, name, tap, size=SIZE):
    """All tokens after a layer, before pooling."""
    network = open_network(kind, folder(name), (tap,), size)
    x = pixels(size)
    for layer in network.scaling:
        x = layer(x)
    return network.model(x, training=False).numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@functools.cache
def inputs_of(name):
    """The texts' tokens; tracing a tokenizer takes seconds."""
    return text(name, folder(name)).inputs_of(tf.constant(TEXTS))


# === As transformers computes it ===


@pytest.mark.parametrize("tap", ["layer_0", ""])
@pytest.mark.parametrize("name", KINDS)
def test_states_are_those_of_transformers(name, tap):
    expected = golden(name)[f"{tap or 'last'}_{SIZE}"]
    assert np.abs(expected).max() > 1
    close(states(KINDS[name], name, tap), expected)


@pytest.mark.parametrize("name", [name for name in KINDS if "dino" in name])
def test_dino_takes_pictures_of_another_size(name):
    close(states(KINDS[name], name, "", OTHER), golden(name)[f"last_{OTHER}"])


@pytest.mark.parametrize("name", PAIRS)
def test_pictures_of_a_pair_are_those_of_transformers(name):
    expected = golden(name)
    for tap in ("layer_0", ""):
        close(states(name, name, tap), expected[f"image_{tap or 'last'}"])
    found = image(name, folder(name)).model(pixels(SIZE), training=False)
    close(found, expected["image_projection"])


@pytest.mark.parametrize("name", PAIRS)
def test_texts_of_a_pair_are_those_of_transformers(name):
    made, expected = text(name, folder(name)), golden(name)
    rows = made.tokenize(tf.constant(TEXTS)).to_list()
    wanted = zip(expected["ids"].tolist(), expected["lengths"], strict=True)
    assert rows == [ids[:length] for ids, length in wanted]
    close(made.model(inputs_of(name), training=False), expected["text_projection"])


@pytest.mark.parametrize("layer", [0, -1])
@pytest.mark.parametrize("name", PAIRS)
def test_a_mean_of_texts_is_over_their_tokens(name, layer):
    made = text(name, folder(name), pooling="mean", layer=layer)
    expected = golden(name)
    every = expected["text_last" if layer else "text_layer_0"]
    lengths = expected["lengths"]
    means = [row[:n].mean(axis=0) for row, n in zip(every, lengths, strict=True)]
    close(made.model(inputs_of(name), training=False), np.stack(means))


@pytest.mark.parametrize("name", ["clip", "metaclip_2"])
def test_more_padding_changes_nothing(name):
    made = text(name, folder(name))
    ids = made.tokenize(tf.constant(TEXTS))
    close(made.model(made.pack(ids, LENGTH)), made.model(inputs_of(name)))


@pytest.mark.parametrize("name", ["metaclip_2", "siglip"])
def test_a_tokenizer_outlives_a_seed(name):
    made = text(name, folder(name))
    before = made.tokenize(tf.constant(TEXTS)).to_list()
    keras.utils.set_random_seed(1)
    assert made.tokenize(tf.constant(TEXTS)).to_list() == before


# === Pooling, blocks, keys ===


@pytest.mark.parametrize(
    ("kind", "name", "prefix"),
    [("deit", "deit", 2), ("dinov2", "dinov2_registers", 3), ("clip", "clip", 1)],
)
def test_places_stand_behind_the_learned_tokens(kind, name, prefix):
    tokens = states(kind, name, "")
    found = image(kind, folder(name), pooling="avg").model(pixels(SIZE))
    np.testing.assert_allclose(found, tokens[:, prefix:].mean(axis=1), atol=1e-5)
    found = image(kind, folder(name), pooling="cls").model(pixels(SIZE))
    np.testing.assert_array_equal(found, tokens[:, 0])
    assert tokens.shape[1] == prefix + (SIZE // 8) ** 2


def test_joined_taps_are_each_alone_side_by_side():
    taps = ("layer_0", "layer_1")
    found = image("vit", folder("vit"), layer=taps).model(pixels(SIZE))
    alone = [states("vit", "vit", tap)[:, 0] for tap in taps]
    np.testing.assert_allclose(found, np.concatenate(alone, axis=1), atol=1e-6)


def test_an_inner_layer_of_a_pair_has_no_projection():
    made = image("clip", folder("clip"), layer="layer_0")
    assert made.feature_dim == 16 and made.description["pooling"] == "cls"
    assert made.similarity is None
    with pytest.raises(InputError, match="pooling is 'projection', but clip has none"):
        image("clip", folder("clip"), layer="layer_0", pooling="projection")


@pytest.mark.parametrize("name", PAIRS)
def test_the_key_of_a_cache_names_the_pooling(name):
    pooled = [image(name, folder(name), pooling=p) for p in ("auto", "avg")]
    assert pooled[0].description["pooling"] == "projection"
    assert pooled[0].description != pooled[1].description
    texts = [text(name, folder(name), pooling=p) for p in ("auto", "mean")]
    assert texts[0].description["pooling"] == "projection"
    assert texts[0].description != texts[1].description


@pytest.mark.parametrize("name", [*KINDS, *PAIRS])
def test_every_layer_is_a_block_from_pixels_upwards(name):
    made = image(KINDS.get(name, name), folder(name))
    found = blocks(made.model, made.block_end)
    ends = [[x.name for x in b if x.name.startswith("layer_")] for b in found]
    assert ends == [["layer_0"], ["layer_1"]]
    weights = sum(len(layer.weights) for block in found for layer in block)
    assert weights == len(made.model.weights)


@pytest.mark.parametrize("name", PAIRS)
def test_every_layer_of_a_text_tower_is_a_block(name):
    made = text(name, folder(name))
    found = blocks(made.model, made.block_end)
    ends = [[x.name for x in b if x.name.startswith("layer_")] for b in found]
    assert ends == [["layer_0"], ["layer_1"]]
    assert "embeddings" in [layer.name for layer in found[0]]
    assert "projection" in [layer.name for layer in found[1]]


@pytest.mark.parametrize("name", ["deit", "dinov2", "dinov3", "clip", "siglip"])
def test_a_saved_network_gives_the_same_features(name, tmp_path):
    towers = [(image(KINDS.get(name, name), folder(name)).model, pixels(SIZE))]
    if name in PAIRS:
        made = text(name, folder(name))
        towers.append((made.model, inputs_of(name)))
    for tower, inputs in towers:
        tower.save(tmp_path / "tower.keras")
        again = keras.saving.load_model(tmp_path / "tower.keras", safe_mode=True)
        np.testing.assert_allclose(again(inputs), tower(inputs), atol=1e-6)


# === What the user can get wrong ===


@pytest.fixture
def copy(tmp_path):
    def copied(name):
        return Path(shutil.copytree(FOLDERS / name, tmp_path / name))

    return copied


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("preprocessor_config.json", "vit, which lacks preprocessor_config.json"),
        ("model.safetensors", "which lacks model.safetensors.*folder needs config.js"),
        ("config.json", "which lacks config.json"),
    ],
)
def test_a_missing_file_is_named(copy, file, message):
    home = copy("vit")
    (home / file).unlink()
    with pytest.raises(InputError, match=message):
        image_encoder("vit", str(home))


def test_pickled_weights_are_refused(copy):
    home = copy("siglip")
    (home / "model.safetensors").rename(home / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin, a pickle that can run an"):
        image_encoder("siglip", str(home))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: image_encoder("vit", folder("deit")),
            "model_type 'deit', but this encoder reads 'vit'. Set image_encoder.name=d",
        ),
        (
            lambda: image_encoder("clip", folder("siglip")),
            "model_type 'siglip', but this .* 'clip'. Set image_encoder.name=siglip",
        ),
        (
            lambda: text_encoder("clip", folder("siglip")),
            "model_type 'siglip', but this .* 'clip'. Set text_encoder.name=siglip",
        ),
        (lambda: image_encoder("vit", "no/such"), "'no/such', but there is no such"),
        (lambda: image_encoder("clip", "none"), "'none', but clip comes with neither"),
        (
            lambda: image_encoder("vit", folder("vit"), image_size=32),
            "image_size is 32, but vit with these weights takes 24 pixels only",
        ),
        (
            lambda: image_encoder("dinov2", folder("dinov2"), image_size=33),
            "image_size is 33, but dinov2 cuts .* patches of 8 pixels",
        ),
        (
            lambda: image_encoder("vit", folder("vit"), layer="layer_9"),
            "image_encoder.layer 'layer_9' is not .*layer_0",
        ),
        (
            lambda: image_encoder("siglip", folder("siglip"), pooling="cls"),
            "pooling is 'cls', but this network has no class token",
        ),
        (
            lambda: text_encoder("clip", folder("clip")),
            f"sequence_length is 64, but this network has {LENGTH} positions",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(made, message):
    with pytest.raises(InputError, match=message):
        made()


def change(home: Path, section: str, **said) -> str:
    config = json.loads((home / "config.json").read_text())
    (config[section] if section else config).update(said)
    (home / "config.json").write_text(json.dumps(config))
    return str(home)


def test_a_tensor_of_another_shape_is_named(copy):
    home = change(copy("vit"), "", hidden_size=32)
    with pytest.raises(InputError, match=r"patch_embeddings.*\(8, 8, 3, 16\).*32"):
        image_encoder("vit", home)


def test_a_tensor_that_is_missing_is_named(copy):
    home = change(copy("clip"), "vision_config", num_hidden_layers=3)
    with pytest.raises(InputError, match="lack the tensor 'vision_model.encoder.layer"):
        image_encoder("clip", home)


def test_an_unknown_activation_is_named(copy):
    home = change(copy("clip"), "vision_config", hidden_act="swish2")
    with pytest.raises(InputError, match="activation 'swish2'. Known: .*quick_gelu"):
        image_encoder("clip", home)


def test_a_preset_that_cannot_be_downloaded_says_what_to_do(monkeypatch):
    def no_network(*_, **__):
        raise OSError("the network\nis off")

    monkeypatch.setattr(keras_hub.models.CLIPBackbone, "from_preset", no_network)
    for encoder in (image_encoder, text_encoder):
        with pytest.raises(InputError, match="the network is off.*local Hugging Face"):
            encoder("clip", "clip_vit_base_patch32")
