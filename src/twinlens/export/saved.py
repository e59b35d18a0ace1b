"""Endpoints to a SavedModel and back."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from twinlens.encoders.saved_program import PICTURES, TEXTS, check_program
from twinlens.errors import InputError
from twinlens.export.endpoints import Endpoint

MANIFEST = "manifest.json"
PLAIN = "plain"  # folder of the SavedModel without custom operations
GRAPH = "saved_model.pb"
FORMAT = 1  # of the manifest; raise it when older readers would misread it


@dataclass(frozen=True)
class Export:
    """An exported model that is loaded.

    Attributes:
        folder: where it is.
        manifest: what `manifest.json` holds.
        endpoints: by name, functions from named tensors to a dict of tensors.

    Example:
        ```python
        export = load_export("models/flickr8k")
        export.endpoints["encode_text"](texts=tf.constant(["a dog"]))["embedding"]
        ```
    """

    folder: Path
    manifest: dict[str, Any]
    endpoints: Mapping[str, Any]
    _loaded: Any  # its variables live as long as this


def load_export(folder: str | Path) -> Export:
    """An exported model, after every file was compared with the manifest.

    Raises:
        InputError: there is none, a file is missing, cut short or changed, or its
            graph could do more than compute.
    """
    import tensorflow_text  # noqa: F401 - registers the tokenizers' operations

    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, said in manifest["files"].items():
        _check_file(folder / name, said)
    try:
        program = (folder / GRAPH).read_bytes()
        # The manifest tells what was cut short, but it may be its author who cheats.
        check_program(program, str(folder), TEXTS | PICTURES)
        loaded = tf.saved_model.load(str(folder))
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}. It was "
            f"written with TensorFlow {manifest['versions']['tensorflow']}; take that "
            "version, or export anew."
        ) from None
    return Export(folder, manifest, loaded.signatures, loaded)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `manifest.json` holds.

    Raises:
        InputError: there is none, it is cut short, or of another version.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no exported model: {MANIFEST} cannot be read ({error}). "
            "Export one with `twinlens export RUN --out FOLDER`."
        ) from None
    if found.get("format") != FORMAT:
        raise InputError(
            f"{path} is of format {found.get('format')!r}, but this twinlens reads "
            f"{FORMAT}. Export the run anew."
        )
    return found


def _check_file(path: Path, said: dict[str, Any]) -> None:
    size = path.stat().st_size if path.is_file() else 0
    if size != said["bytes"]:
        raise InputError(
            f"{path} has {size:,} bytes, but {said['bytes']:,} were written: the "
            "export was cut short. Copy it again with all its files, or export anew."
        )
    if file_digest(path) != said["sha256"]:
        raise InputError(
            f"{path} is not what was written: its SHA-256 differs from {MANIFEST}. "
            "Copy it again, or export anew."
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file: 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_saved_models(
    module: tf.Module, endpoints: Mapping[str, Endpoint], folder: Path
) -> tuple[str, ...]:
    """Writes a SavedModel, and one without custom operations where it needs any.

    A SavedModel whose graph has an operation that is not registered does not load at
    all, whichever endpoint is wanted. So what needs no custom operation stands a
    second time in `PLAIN`.

    Args:
        module: holds the variables and tables that the endpoints use.
        endpoints: by name.
        folder: to write; the SavedModel's other files go into it, too.

    Returns:
        The custom operations: those that TensorFlow alone does not have.
    """
    _save(module, endpoints, folder)
    custom = custom_operations(folder)
    if custom:
        plain = {n: each for n, each in endpoints.items() if not each.reads_texts}
        _save(module, plain, folder / PLAIN)
    return custom


def _save(module: tf.Module, endpoints: Mapping[str, Endpoint], folder: Path) -> None:
    functions = {name: each.function for name, each in endpoints.items()}
    tf.saved_model.save(module, str(folder), signatures=functions)
    if not any((folder / "assets").iterdir()):
        shutil.rmtree(folder / "assets")  # copies often lose empty folders


def custom_operations(folder: Path) -> tuple[str, ...]:
    """Operations in a SavedModel's graph that TensorFlow alone does not have."""
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / GRAPH).read_bytes())
    graph = saved.meta_graphs[0].graph_def
    functions = {each.signature.name for each in graph.library.function}
    used = {node.op for node in graph.node}
    used |= {node.op for each in graph.library.function for node in each.node_def}
    return tuple(sorted(used - functions - set(dir(tf.raw_ops))))
