"""Where a SavedModel is, and what its graph must not do."""

import os
import sys
import types
import zipfile
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from saved_models import (
    PIXELS,
    SIZE,
    save_bert,
    save_picture,
    save_preprocessor,
    save_signature,
)
from tensorflow.core.protobuf import saved_model_pb2

from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.saved_program import FILE, check_program
from twinlens.errors import InputError

HANDLE = "https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/feature_vector/5"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    return {
        "vector": save_picture(home / "vector"),
        "bert": save_bert(home / "bert"),
        "words": save_preprocessor(home / "words"),
    }


# === Where it is ===


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="'.*nowhere', but there is no such folder"):
        image_encoder(f"hub:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("name", ["hub:", "hub"])
def test_an_empty_handle_is_refused(name):
    with pytest.raises(InputError, match="no such folder. Give the path"):
        image_encoder(name)


def test_a_folder_that_is_no_saved_model_says_what_it_has(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=f"no {FILE}, but model.safetensors"):
        image_encoder(f"hub:{tmp_path}")


def test_a_file_cut_short_is_refused(folders, tmp_path):
    whole = (Path(folders["vector"]) / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="holds no SavedModel. Copy it again"):
        image_encoder(f"hub:{tmp_path}")


def test_missing_values_are_told(folders, tmp_path):
    whole = (Path(folders["vector"]) / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole)
    with pytest.raises(InputError, match="cannot be loaded: .*with all its files"):
        image_encoder(f"hub:{tmp_path}")


def test_a_handle_without_tensorflow_hub_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with pytest.raises(InputError) as error:
        image_encoder(f"hub:{HANDLE}")
    assert 'pip install "twinlens[hub]"' in str(error.value)
    assert HANDLE in str(error.value) and "unpacked" in str(error.value)


def test_a_handle_that_cannot_be_downloaded_says_what_to_do(monkeypatch):
    def resolve(handle):
        raise OSError(f"{handle}:\nthe network is off")

    hub = types.SimpleNamespace(resolve=resolve)
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    with pytest.raises(InputError) as error:
        text_encoder("hub:bert", preprocessor=HANDLE)
    text = str(error.value)
    assert f"text_encoder.preprocessor names the handle '{HANDLE}'" in text
    assert "the network is off" in text and "give its folder in place of" in text


def test_a_handle_is_resolved_by_tensorflow_hub(monkeypatch, folders):
    hub = types.SimpleNamespace(resolve={HANDLE: folders["vector"]}.get)
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    made = image_encoder(f"hub:{HANDLE}")
    assert made.feature_dim == 5 and made.description["encoder"] == f"hub:{HANDLE}"


def test_the_real_tensorflow_hub_keeps_its_cache_and_misses_a_network(
    monkeypatch, tmp_path
):
    pytest.importorskip("tensorflow_hub", exc_type=ImportError)

    def no_network(*_, **__):
        raise OSError("the network is off")

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with pytest.raises(InputError, match="could not be downloaded .*network is off"):
        image_encoder(f"hub:{HANDLE}")


# === What it must not do ===


def reading(pixels):
    """Seems to compute, but reads a file, in a function inside."""
    inner = tf.function(lambda: tf.io.read_file("/etc/hostname"))
    return {"default": pixels[:, 0, 0] + tf.cast(tf.strings.length(inner()), "float32")}


def writing(pixels):
    tf.io.write_file("written", "by a graph")
    return {"default": pixels[:, 0, 0]}


def mapping(pixels):
    """Reads a file that is named by an attribute alone."""
    found = tf.raw_ops.ImmutableConst(
        dtype=tf.float32, shape=[3], memory_region_name="/etc/hostname"
    )
    return {"default": pixels[:, 0, 0] + found}


def python(pixels):
    return {"default": tf.numpy_function(lambda x: x, [pixels[:, 0, 0]], tf.float32)}


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (reading, "ReadFile"),
        (writing, "WriteFile"),
        (mapping, "ImmutableConst"),
        (python, "PyFunc"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(tmp_path, body, operation):
    folder = save_signature(tmp_path / "more", body, PIXELS)
    with pytest.raises(InputError, match=f"does more than compute: .*{operation}"):
        image_encoder(f"hub:{folder}")


@pytest.fixture
def program(folders):
    """The graph of a picture network, and its functions by name, to be changed."""
    file = Path(folders["vector"]) / FILE
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    check_program(saved.SerializeToString(), "the picture")  # it is in order
    functions = saved.meta_graphs[0].graph_def.library.function
    return saved, {each.signature.name: each for each in functions}


def called_one(functions):
    return next(each for name, each in functions.items() if "traced" not in name)


def test_a_function_that_saves_may_stand_there_but_not_be_called(program):
    """Every SavedModel has one; here the graph that is served calls it."""
    saved, functions = program
    call = called_one(functions).node_def.add(name="x", op="StatefulPartitionedCall")
    (call.attr["f"].func.name,) = (n for n in functions if "traced_save" in n)
    with pytest.raises(InputError, match="MergeV2Checkpoints, SaveV2, Sharded"):
        check_program(saved.SerializeToString(), "the picture")


def test_a_function_does_not_hide_an_operation_of_its_name(program):
    saved, functions = program
    harmless = saved.meta_graphs[0].graph_def.library.function.add()
    harmless.signature.name = "WriteFile"
    called_one(functions).node_def.add(name="x", op="WriteFile")
    with pytest.raises(InputError, match="does more than compute: .* has WriteFile"):
        check_program(saved.SerializeToString(), "the picture")


def test_a_saved_model_of_tensorflow_1_is_refused(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.compat.v1.placeholder(tf.float32, [None, SIZE, SIZE, 3])
        tf.compat.v1.saved_model.simple_save(
            session, str(tmp_path / "old"), {"x": pixels}, {"y": pixels + 1}
        )
    with pytest.raises(InputError, match="SavedModel of TensorFlow 1"):
        image_encoder(f"hub:{tmp_path / 'old'}")


def test_a_keras_file_whose_graph_was_exchanged_does_not_load(folders, tmp_path):
    made = image_encoder(f"hub:{folders['vector']}")
    made.model.save(tmp_path / "model.keras")
    evil = save_signature(tmp_path / "evil", writing, PIXELS)
    program = (Path(evil) / FILE).read_bytes()
    with (
        zipfile.ZipFile(tmp_path / "model.keras") as whole,
        zipfile.ZipFile(tmp_path / "evil.keras", "w") as changed,
    ):
        for name in whole.namelist():
            changed.writestr(name, program if name.endswith(FILE) else whole.read(name))
    with pytest.raises(ValueError, match="does more than compute"):
        keras.saving.load_model(tmp_path / "evil.keras")
    assert not os.path.exists("written")


def test_settings_alone_make_no_layer_that_could_be_called(folders):
    made = image_encoder(f"hub:{folders['vector']}")
    copy = keras.models.clone_model(made.model)
    with pytest.raises(InputError, match="has no graph: it was made from its settings"):
        copy(tf.zeros([1, SIZE, SIZE, 3]))
