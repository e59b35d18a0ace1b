"""Files that were made to run code are refused, and run none."""

import ast
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import tensorflow as tf
from exported import exported as exported
from saved_models import Preprocessor, save_bert, save_picture

import twinlens
from twinlens.data.table import read
from twinlens.encoders import image_encoder, text_encoder
from twinlens.errors import InputError
from twinlens.export.saved import GRAPH, MANIFEST, load_export
from twinlens.features import store
from twinlens.index.folder import read_items
from twinlens.runs import Run
from twinlens.training.checkpoint import load_checkpoint
from twinlens.training.phase1 import load_heads
from twinlens.training.phase2 import load_model

SOURCE = Path(twinlens.__file__).parent


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """What is there only if code has run; looked for after the test."""
    path = tmp_path / "code has run"
    yield path
    assert not path.exists()


def test_the_payload_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "made")))
    assert (tmp_path / "made").is_dir()


# === NumPy ===


def objects(marker):
    return np.array([Payload(marker)], dtype=object)


def test_features_that_are_a_pickle_are_refused(tmp_path, marker):
    np.save(tmp_path / "features.npy", objects(marker), allow_pickle=True)
    table = pa.table({"id": ["a"], "content": [""], "error": [""]})
    parquet.write_table(table, tmp_path / "ids.parquet")
    with pytest.raises(InputError, match="feature cache .* cannot be read"):
        store.read(tmp_path)


@pytest.mark.parametrize("name", ["state_0", "best_0", "progress"])
def test_a_checkpoint_with_a_pickle_is_refused(tmp_path, marker, name):
    parts = {"state_0": np.zeros(1), "progress": np.frombuffer(b"{}", np.uint8)}
    path = tmp_path / "checkpoint.npz"
    np.savez(path, **parts | {name: objects(marker)})
    with pytest.raises(InputError, match="cannot be read .*--restart"):
        load_checkpoint(path, [tf.Variable(0.0)])


# === Parquet ===


def hostile_parquet(path, marker, **columns):
    """A column that older versions of Arrow would unpickle to learn its type."""
    pickled = pickle.dumps(Payload(marker))
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickled,
    }
    columns |= {"more": [pickled]}
    table = pa.table(columns)
    fields = [table.schema.field(name) for name in columns]
    fields[-1] = fields[-1].with_metadata(metadata)
    parquet.write_table(table.cast(pa.schema(fields)), path)
    return path


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of Arrow: it does not
def test_a_caption_file_with_a_pickled_type_gives_its_captions(tmp_path, marker):
    (tmp_path / "a.png").touch()
    columns = {"image_path": ["a.png"], "caption": ["a dog"]}
    path = hostile_parquet(tmp_path / "captions.parquet", marker, **columns)
    assert read("table", path)["caption"].tolist() == ["a dog"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_items_of_an_index_with_a_pickled_type_are_plain_bytes(tmp_path, marker):
    hostile_parquet(
        tmp_path / "items-1.parquet", marker, **{"id": ["a"], "removed\n": [False]}
    )
    items, _ = read_items(tmp_path, {"generation": 1, "count": 1})
    assert isinstance(items["more"][0], bytes)


# === Keras ===


def with_lambda(path, marker):
    inputs = keras.Input((2,))
    place = str(marker)
    run = lambda x: (__import__("os").makedirs(place, exist_ok=True), x)[1]  # noqa: E731
    keras.Model(inputs, keras.layers.Lambda(run)(inputs)).save(path)
    marker.rmdir()  # made when the model was


def with_class(path, **described):
    """A model whose layer is called something else in the file."""
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(path)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1] |= {"registered_name": None, **described}
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in parts.items():
            as_text = json.dumps(config) if name == "config.json" else content
            changed.writestr(name, as_text)


@pytest.mark.parametrize("name", ["heads.keras", "model.keras"])
def test_a_keras_file_with_a_lambda_is_refused(tmp_path, marker, name):
    with_lambda(tmp_path / name, marker)
    with pytest.raises(InputError, match=f"{name} cannot be loaded .*[Ll]ambda"):
        load_heads(Run(tmp_path)) if name[0] == "h" else load_model(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "config"),
    [
        ("os", "mkdir", {"path": "MARKER"}),
        ("builtins", "exec", {"source": "open('MARKER', 'w')"}),
        ("subprocess", "Popen", {"args": ["touch", "MARKER"]}),
        ("keras.utils", "get_file", {"fname": "MARKER", "origin": "file:///etc/fstab"}),
        ("keras.config", "enable_unsafe_deserialization", {}),
        ("keras.src.saving.saving_api", "load_model", {"filepath": "MARKER"}),
        ("keras_hub.src.utils.preset_utils", "os", {}),
    ],
)
def test_a_keras_file_that_names_other_code_is_refused(
    tmp_path, marker, module, name, config
):
    filled = json.loads(json.dumps(config).replace("MARKER", str(marker)))
    described = {"module": module, "class_name": name, "config": filled}
    with_class(tmp_path / "heads.keras", **described)
    with pytest.raises(InputError, match="heads.keras cannot be loaded"):
        load_heads(Run(tmp_path))


@pytest.mark.slow
def test_a_keras_file_that_points_to_a_saved_model_is_refused(tmp_path, marker):
    folder = save_writing_initializer(tmp_path / "saved", marker)
    config = {"filepath": folder, "call_endpoint": "serve", "name": "x"}
    described = {"module": "keras.layers", "class_name": "TFSMLayer", "config": config}
    with_class(tmp_path / "heads.keras", **described)
    with pytest.raises(InputError, match="heads.keras cannot be loaded .*TFSMLayer"):
        load_heads(Run(tmp_path))


@pytest.mark.slow
def test_a_preset_with_a_lambda_is_refused(tmp_path, marker):
    with_lambda(tmp_path / "with.keras", marker)
    with zipfile.ZipFile(tmp_path / "with.keras") as whole:
        config = json.loads(whole.read("config.json"))
    preset = tmp_path / "preset"
    preset.mkdir()
    for name in ("config.json", "task.json", "preprocessor.json", "tokenizer.json"):
        (preset / name).write_text(json.dumps(config))
    (preset / "metadata.json").write_text('{"keras_version": "3.15.0"}')
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save_weights(
        preset / "model.weights.h5"
    )
    with pytest.raises(InputError):
        text_encoder("bert", weights=str(preset))
    with pytest.raises(InputError):
        image_encoder("vit", weights=str(preset))


# === SavedModel ===


class Initialised(tf.Module):
    """Its resource writes a file when it is loaded."""

    def __init__(self, marker):
        super().__init__()

        class Resource(tf.saved_model.experimental.TrackableResource):
            def _create_resource(self):
                return tf.raw_ops.HashTableV2(
                    key_dtype=tf.int64, value_dtype=tf.int64, shared_name="x"
                )

            @tf.function(input_signature=[])
            def _initialize(self):
                tf.io.write_file(str(marker), "by an initializer")
                return tf.constant(1)

        self.resource = Resource()
        self.weight = tf.Variable(tf.ones(5))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])])
    def __call__(self, pixels):
        return pixels[:, 0, :5, 0] * self.weight


def save_writing_initializer(folder, marker):
    tf.saved_model.save(Initialised(marker), str(folder))
    Path(marker).unlink(missing_ok=True)
    return str(folder)


@pytest.mark.slow
def test_a_saved_model_that_writes_when_it_is_loaded_would_do_so(tmp_path):
    folder = save_writing_initializer(tmp_path / "saved", tmp_path / "written")
    tf.saved_model.load(folder)
    assert (tmp_path / "written").exists()  # what the next tests are about


@pytest.mark.slow
def test_a_saved_model_that_writes_when_it_is_loaded_is_refused(tmp_path, marker):
    folder = save_writing_initializer(tmp_path / "saved", marker)
    with pytest.raises(InputError, match="more than compute: .*WriteFile"):
        image_encoder(f"hub:{folder}")
    with pytest.raises(InputError, match="more than compute: .*WriteFile"):
        image_encoder("mobilenet", segment=f"mask_rcnn:{folder}")


def save_words_and(folder, effect):
    """A preprocessor that does something beside its work."""
    root = tf.Module()
    root.words = Preprocessor()

    def preprocess(texts):
        with tf.control_dependencies([effect()]):
            return root.words(tf.identity(texts))

    root.__call__ = tf.function(
        preprocess, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    tf.saved_model.save(root, str(folder))
    return str(folder)


EFFECTS = {
    "WriteFile": lambda path: tf.io.write_file(path, "by a preprocessor"),
    "ReadFile": lambda path: tf.io.read_file("/etc/hostname"),
    "PrintV2": lambda path: tf.print("x", output_stream=f"file://{path}"),
    "PyFunc": lambda path: tf.numpy_function(lambda: 1, [], tf.int64),
    "MatchingFiles": lambda path: tf.io.matching_files("/*"),
}


@pytest.mark.slow
@pytest.mark.parametrize("operation", EFFECTS)
def test_a_preprocessor_that_does_more_than_compute_is_refused(
    tmp_path, marker, operation
):
    effect = EFFECTS[operation]
    folder = save_words_and(tmp_path / "words", lambda: effect(str(marker)))
    bert = save_bert(tmp_path / "bert")
    with pytest.raises(InputError, match=f"more than compute: .*{operation}"):
        text_encoder(f"hub:{bert}", preprocessor=folder)


def exchange(folder, name, contents):
    """Puts a file into an export, and into its manifest."""
    (folder / name).write_bytes(contents)
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    said = {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    assert manifest["files"][name].keys() <= said.keys()
    manifest["files"][name] = said
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


@pytest.mark.slow
def test_an_export_whose_author_cheats_is_refused(exported, tmp_path, marker):
    evil = Path(save_writing_initializer(tmp_path / "evil", marker))
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    exchange(folder, GRAPH, (evil / GRAPH).read_bytes())
    with pytest.raises(InputError, match="more than compute: .*WriteFile"):
        load_export(folder)


@pytest.mark.slow
def test_a_table_from_a_vocabulary_file_may_be_loaded(tmp_path):
    """As TF-Hub's preprocessors have it: an asset, read by an initializer."""
    from twinlens.encoders.saved_program import TEXTS, open_folder

    (tmp_path / "words.txt").write_text("a\nb\n")
    root = tf.Module()
    root.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(tmp_path / "words.txt"),
            *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        ),
        default_value=-1,
    )
    root.__call__ = tf.function(
        lambda texts: root.table.lookup(tf.strings.lower(texts)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(root, str(tmp_path / "saved"))
    _, loaded = open_folder(tmp_path / "saved", "words", TEXTS)
    assert loaded(tf.constant(["B", "c"])).numpy().tolist() == [1, -1]
    with pytest.raises(InputError, match="StringLower"):
        open_folder(tmp_path / "saved", "words")


@pytest.mark.slow
def test_weights_behind_a_link_to_another_file_are_refused(tmp_path):
    """HDF5 can point to other files of the reader's."""
    import h5py

    folder = save_picture(tmp_path / "vector")
    model = image_encoder(f"hub:{folder}").model
    path, other = tmp_path / "linked.weights.h5", tmp_path / "secret.weights.h5"
    model.save_weights(other)
    with h5py.File(path, "w") as file:
        for name in h5py.File(other):
            file[name] = h5py.ExternalLink(str(other), f"/{name}")
    with pytest.raises((InputError, ValueError)):
        model.load_weights(path)


# === All of the sources ===

FORBIDDEN = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LOADS_GRAPHS = {  # modules that check a graph first, or load what they just wrote
    "encoders/saved_program.py": "check_program",
    "export/saved.py": "check_program",
    "export/fresh.py": "",
    "export/use.py": "",
}


WATCHED = ("load", "load_model", "eval", "exec", "read_pickle", "check_program")


def calls_in(tree):
    """Name and keywords of the calls that matter here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            last = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if last in WATCHED:
                options = {each.arg: ast.unparse(each.value) for each in node.keywords}
                yield ast.unparse(node.func), options


def imported_by(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.slow
def test_no_module_loads_what_could_be_code():
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        assert not FORBIDDEN & set(imported_by(tree)), place
        for name, options in calls_in(tree):
            assert name not in ("eval", "exec", "pd.read_pickle"), place
            if name == "np.load":
                assert options.get("allow_pickle") == "False", place
            if name.endswith("saving.load_model"):
                assert options.get("safe_mode") == "True", place
            if name == "tf.saved_model.load":
                assert place in LOADS_GRAPHS, place


@pytest.mark.parametrize(("place", "check"), LOADS_GRAPHS.items())
def test_a_module_that_loads_graphs_checks_them(place, check):
    names = [name for name, _ in calls_in(ast.parse((SOURCE / place).read_text()))]
    assert "tf.saved_model.load" in names
    assert not check or check in names


def test_an_array_of_objects_is_a_pickle_to_numpy(tmp_path):
    """Why `allow_pickle=False` matters: with it, the same bytes are refused."""
    buffer = io.BytesIO()
    np.save(buffer, objects(tmp_path / "made"), allow_pickle=True)
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)
    assert (tmp_path / "made").is_dir()
