"""BERT's relatives against transformers' own values, and folders that do not fit."""

import functools
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity.text_families import TEXTS
from safetensors.numpy import load_file, save_file

from twinlens.encoders import text_encoder
from twinlens.errors import InputError

FOLDERS = Path(__file__).parent / "golden" / "folders"
FAMILIES = ["bert", "distilbert", "roberta", "xlm_roberta", "albert", "electra"]
SHARED_LAYERS = ["albert"]


@functools.cache
def encoder(family, folder=None, **settings):
    return text_encoder(family, str(folder or FOLDERS / family), **settings)


@functools.cache
def golden(family):
    return dict(np.load(FOLDERS / family / "golden.npz"))


def features(made, texts=TEXTS):
    return made.model(made.inputs_of(tf.constant(list(texts))), training=False).numpy()


def expected(family, layer, reduce):
    states = [golden(family)[f"states{n}"][layer] for n in range(len(TEXTS))]
    return np.stack([reduce(each) for each in states])


def copied(family, folder):
    return Path(shutil.copytree(FOLDERS / family, folder / family))


# === The values of transformers ===


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_become_the_tokens_of_the_original(family):
    found = encoder(family).tokenize(tf.constant(TEXTS)).to_list()
    assert found == [golden(family)[f"ids{n}"].tolist() for n in range(len(TEXTS))]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_last_layer_has_the_states_of_the_original(family, pooling):
    reduce = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0]}
    wanted = expected(family, -1, reduce.get(pooling, lambda x: x.max(0)))
    found = features(encoder(family, pooling=pooling))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in SHARED_LAYERS])
def test_inner_layers_have_the_states_of_the_original(family):
    wanted = expected(family, 0, lambda x: x.mean(0))
    found = features(encoder(family, layer=0))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("family", ["albert", "xlm_roberta"])
def test_tokens_stay_when_a_seed_is_set_afterwards(family):
    made, expected = encoder(family), golden(family)["ids0"].tolist()
    assert made.tokenize(tf.constant(TEXTS[:1])).to_list() == [expected]
    keras.utils.set_random_seed(5)
    assert made.tokenize(tf.constant(TEXTS[:1])).to_list() == [expected]


def test_layers_that_are_shared_can_only_be_read_at_the_end():
    with pytest.raises(InputError, match="layer is 1, but this network has the layers"):
        encoder("albert", layer=1)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_pooler_is_that_of_the_original(family):
    wanted = [golden(family)[f"pooled{n}"] for n in range(len(TEXTS))]
    found = features(encoder(family, pooling="pooler"))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("family", ["distilbert", "roberta", "electra"])
def test_a_network_without_pooler_says_so(family):
    with pytest.raises(InputError, match="'pooler', which this network has not"):
        encoder(family, pooling="pooler")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_network_gives_the_same_features(family, tmp_path):
    made = encoder(family)
    made.model.save(tmp_path / "text.keras")
    loaded = keras.saving.load_model(tmp_path / "text.keras")
    inputs = made.inputs_of(tf.constant(TEXTS))
    np.testing.assert_array_equal(loaded(inputs), made.model(inputs))


def test_families_differ_in_their_cache_key():
    keys = [json.dumps(encoder(f).description, sort_keys=True) for f in FAMILIES]
    assert len(set(keys)) == len(FAMILIES)
    mean = encoder("bert").description
    first = encoder("bert", pooling="cls").description
    assert mean != first and mean["weights"] == first["weights"]


@pytest.mark.parametrize("prefix", ["", "distilbert.", "model."])
def test_a_checkpoint_is_read_with_and_without_its_prefix(tmp_path, prefix):
    folder = copied("distilbert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    renamed = {prefix + name: value for name, value in tensors.items()}
    save_file(renamed, folder / "model.safetensors")
    if prefix == "model.":
        with pytest.raises(InputError, match="hold no tensor 'embeddings.word_emb"):
            encoder("distilbert", folder)
        return
    found = features(encoder("distilbert", folder))
    np.testing.assert_array_equal(found, features(encoder("distilbert")))


def test_a_checkpoint_in_two_files_is_read_by_its_index(tmp_path):
    folder = copied("bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"part{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: tensors[name] for name in tensors if places[name] == file}
        save_file(part, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(
        features(encoder("bert", folder)), features(encoder("bert"))
    )


# === Folders that do not fit ===


def changed_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_of_another_family_names_the_right_encoder():
    with pytest.raises(InputError, match="'xlm-roberta', but.*name=xlm_roberta"):
        encoder("bert", FOLDERS / "xlm_roberta")


def test_a_pickle_alone_is_refused_with_the_way_out(tmp_path):
    folder = copied("bert", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="lacks model.safetensors.*pickle.*save_pre"):
        encoder("bert", folder)


def test_a_tensor_of_another_shape_is_named(tmp_path):
    folder = copied("bert", tmp_path)
    changed_config(folder, intermediate_size=32)
    with pytest.raises(InputError) as error:
        encoder("bert", folder)
    text = str(error.value)
    assert "'encoder.layer.0.intermediate.dense.weight' has the shape (16, 24)" in text
    assert "needs (16, 32)" in text and "different networks" in text


def test_a_missing_tensor_is_named(tmp_path):
    folder = copied("roberta", tmp_path)
    changed_config(folder, num_hidden_layers=3)
    with pytest.raises(InputError, match="lack the tensor 'encoder.layer.2.attention"):
        encoder("roberta", folder)


def test_a_tokenizer_of_more_words_than_the_network_is_refused(tmp_path):
    folder = copied("electra", tmp_path)
    with open(folder / "vocab.txt", "a") as file:
        file.write("more\nwords\n")
    with pytest.raises(InputError, match="whose tokenizer has .* tokens, but the net"):
        encoder("electra", folder)


def test_a_checkpoint_cut_short_is_named(tmp_path):
    folder = copied("bert", tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:2000])
    with pytest.raises(InputError, match="model.safetensors cannot be read: "):
        encoder("bert", folder)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(InputError, match="is 91, but this network has 90 positions"):
        encoder("bert", sequence_length=91)


def test_a_checkpoint_without_pooler_has_none(tmp_path):
    folder = copied("bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    kept = {n: v for n, v in tensors.items() if not n.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors")
    np.testing.assert_array_equal(
        features(encoder("bert", folder)), features(encoder("bert"))
    )
    with pytest.raises(InputError, match="'pooler', which this network has not"):
        encoder("bert", folder, pooling="pooler")


# === sentence-transformers ===


def sentence_folder(tmp_path, pooling, dense=False, normalise=True):
    """A folder as sentence-transformers saves it."""
    folder = copied("distilbert", tmp_path)
    modules = ["", "1_Pooling", *["2_Dense"] * dense, *["3_Normalize"] * normalise]
    kinds = ["Transformer", "Pooling", *["Dense"] * dense, *["Normalize"] * normalise]
    listed = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(modules, kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    if dense:
        (folder / "2_Dense").mkdir()
        config = {"in_features": 16, "out_features": 3, "bias": True}
        config["activation_function"] = "torch.nn.modules.activation.Tanh"
        (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
        random = np.random.default_rng(0)
        weights = {
            "linear.weight": random.normal(size=(3, 16)).astype("float32"),
            "linear.bias": random.normal(size=3).astype("float32"),
        }
        save_file(weights, folder / "2_Dense" / "model.safetensors")
        return folder, weights
    return folder, None


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "max"}, "max"),
    ],
)
def test_a_sentence_folder_pools_and_normalises_as_it_says(tmp_path, said, pooling):
    made = encoder("distilbert", sentence_folder(tmp_path, said)[0])
    plain = features(encoder("distilbert", pooling=pooling, sequence_length=12))
    expected = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(features(made), expected, atol=1e-6)
    assert made.description["pooling"] == f"{pooling}+unit"
    assert made.description["sequence_length"] == 12


def test_a_sentence_folder_has_its_linear_layer(tmp_path):
    said = {"pooling_mode_mean_tokens": True}
    folder, weights = sentence_folder(tmp_path, said, dense=True, normalise=False)
    plain = features(encoder("distilbert", sequence_length=12))
    expected = np.tanh(plain @ weights["linear.weight"].T + weights["linear.bias"])
    np.testing.assert_allclose(
        features(encoder("distilbert", folder)), expected, atol=1e-5
    )


def test_a_pooling_that_is_asked_for_wins_over_the_folder(tmp_path):
    folder, _ = sentence_folder(tmp_path, {"pooling_mode_mean_tokens": True})
    plain = encoder("distilbert", folder, pooling="cls", sequence_length=12)
    np.testing.assert_array_equal(
        features(plain),
        features(encoder("distilbert", pooling="cls", sequence_length=12)),
    )


def test_an_unknown_module_is_named(tmp_path):
    folder, _ = sentence_folder(tmp_path, {"pooling_mode_weightedmean_tokens": True})
    with pytest.raises(InputError, match="pooling weightedmean_tokens. Known: mean"):
        encoder("distilbert", folder)
    (folder / "modules.json").write_text('[{"path": "", "type": "a.b.LSTM"}]')
    with pytest.raises(InputError, match="with a module 'LSTM'"):
        encoder("distilbert", folder)
