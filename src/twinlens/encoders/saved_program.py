"""A SavedModel's files: where they are, and what its graph does."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from twinlens.errors import InputError

FILE = "saved_model.pb"
NAMED = frozenset(  # take a string that is no place: an equation, a name, a format
    "CheckNumerics CheckNumericsV2 DataFormatDimMap DataFormatVecPermute Einsum Enter "
    "ExtractGlimpse ExtractGlimpseV2 GatherNd ImageProjectiveTransformV2 "
    "ImageProjectiveTransformV3 PartitionedCall PreventGradient RaggedTensorToTensor "
    "ResourceScatterNdAdd ResourceScatterNdUpdate ScaleAndTranslate ScatterNd "
    "StatefulPartitionedCall TensorArrayV3 TensorScatterAdd TensorScatterMax "
    "TensorScatterMin TensorScatterSub TensorScatterUpdate VarHandleOp".split()
)
TEXTS = frozenset(  # take text and give text or numbers; may read a vocabulary's file
    "AsString CaseFoldUTF8 DecodeBase64 EncodeBase64 FastBertNormalize "
    "FastWordpieceTokenizeWithOffsets Fingerprint HashTableV2 "
    "InitializeTableFromTextFileV2 MutableDenseHashTableV2 MutableHashTableV2 "
    "NormalizeUTF8 NormalizeUTF8WithOffsetsMap PhraseTokenize ReduceJoin "
    "RegexFullMatch RegexReplace RegexSplitWithOffsets SentenceFragmentsV2 "
    "SentencepieceDetokenizeOp SentencepieceIdToStringOp SentencepieceOp "
    "SentencepieceStringToIdOp SentencepieceTokenizeOp "
    "SentencepieceTokenizeWithOffsetsOp SplitMergeTokenizeWithOffsets "
    "StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin StringLength "
    "StringLower StringNGrams StringSplit StringSplitV2 StringStrip StringToHashBucket "
    "StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr "
    "TokenizerFromLogits UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode "
    "UnicodeTranscode UnsortedSegmentJoin WordpieceTokenizeWithOffsets".split()
)
PICTURES = frozenset(  # take the bytes of a picture
    "DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeRaw DecodeWebP "
    "ExtractJpegShape".split()
)
TEXT_LIBRARY = "TFText>"  # before names of tensorflow-text, which only computes
NEVER = ("Dataset", "Iterator", "Infeed", "Outfeed", "TPU")  # may hide a graph


# === Files ===


def find_folder(handle: str, setting: str) -> Path:
    """The folder of a SavedModel.

    Args:
        handle: a local folder, or a handle of TF-Hub: an address.
        setting: whose value it is, for people.

    Raises:
        InputError: there is none, or it could not be downloaded.
    """
    folder = _downloaded(handle, setting) if "://" in handle else Path(handle)
    if not handle or not folder.is_dir():
        raise InputError(
            f"{setting} names the SavedModel {handle!r}, but there is no such folder. "
            "Give the path of a folder or a handle of TF-Hub "
            "(https://tfhub.dev/…, https://www.kaggle.com/models/…)."
        )
    if not (folder / FILE).is_file():
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:5])
        raise InputError(
            f"{setting} names the folder {folder}, which is no SavedModel: it has no "
            f"{FILE}, but {inside or 'nothing'}. Give the folder that holds {FILE}."
        )
    return folder


def _downloaded(handle: str, setting: str) -> Path:
    try:
        import tensorflow_hub
    except ImportError as error:
        raise InputError(
            f"{setting} names the handle {handle!r}, for which tensorflow-hub is "
            f'missing or broken ({error}). Give `pip install "twinlens[hub]"`, or '
            "the path of a SavedModel that you downloaded and unpacked."
        ) from None
    try:
        return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # of urllib, tarfile, TensorFlow, many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{setting} names the handle {handle!r}, which is not on this machine and "
            f"could not be downloaded ({reason}). Connect to the network once "
            "(TFHUB_CACHE_DIR says where it is kept), or download and unpack it "
            "elsewhere and give its folder in place of the handle."
        ) from None


def folder_digest(folder: Path) -> str:
    """Names what a SavedModel's files hold: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "fingerprint.pb":  # has a random number
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


# === What the graph does ===


def open_folder(
    folder: Path, what: str, also: frozenset[str] = frozenset()
) -> tuple[bytes, Any]:
    """A SavedModel's graph, as in its file, and the loaded object; see `check_program`.

    Raises:
        InputError: it does more than compute, or cannot be loaded.
    """
    program = (folder / FILE).read_bytes()
    check_program(program, what, also)
    try:
        return program, tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{what} cannot be loaded: {reason}. Copy it again, with all its files."
        ) from None


def load_without_values(program: bytes) -> Any:
    """A SavedModel from its graph alone; its variables have no values yet."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(program)
        options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=True)
        return tf.saved_model.load(folder, options=options)


def check_program(
    program: bytes, what: str, also: frozenset[str] = frozenset()
) -> None:
    """Refuses a graph that could do more than compute.

    TensorFlow's graphs can read and write files or call Python. Whatever does so
    needs to be told where by a string, so operations that take strings are refused,
    but for a few known ones. TensorFlow's own functions that save and restore may
    stand in the graph as long as no other function can call them; loading runs none
    of them. This is a check of what a graph may ask for, not a sandbox: a mistake
    in TensorFlow's operations could still be used by a file made for it.

    Args:
        program: contents of `saved_model.pb`.
        what: it is, for people.
        also: operations on strings that it may have: `TEXTS`, `PICTURES`.

    Raises:
        InputError: not a SavedModel of TensorFlow 2, or it does more than compute.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(program)
    except DecodeError:
        raise InputError(f"{what} holds no SavedModel. Copy it again.") from None
    graphs = saved.meta_graphs
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise InputError(
            f"{what} is a SavedModel of TensorFlow 1, which does not train in "
            "TensorFlow 2. Take a newer version of the network."
        )
    found = sorted(_reachable_operations(graphs[0]) - {""})
    found = [name for name in found if not (_computes(name) or _is_of(name, also))]
    if found:
        raise InputError(
            f"{what} does more than compute: its graph has {', '.join(found)}, which "
            "could read or write files, call Python, or are not known here. Only "
            f"SavedModels whose operations take and give numbers{_named(also)} are "
            "used, so that a saved model is safe to load. Export the network without "
            "these."
        )


def _reachable_operations(graph) -> set[str]:
    """Operations in functions that the loaded object, or a gradient, can call."""
    library = graph.graph_def.library
    of = {
        function.signature.name: {node.op for node in function.node_def}
        for function in library.function
    }
    found = set()
    for name in _called(graph, set(of)):
        found |= of.get(name, {name})  # what is no function may be an operation
    return {name for name in found if name not in of or op_def_registry.get(name)}


def _called(graph, functions: set[str]) -> set[str]:
    """Names of functions that the object names, a gradient, or any function."""
    found = set(graph.object_graph_def.concrete_functions)
    for node in graph.object_graph_def.nodes:
        found |= set(node.function.concrete_functions)
        found.add(node.bare_concrete_function.concrete_function_name)
    library = graph.graph_def.library
    found |= {each.gradient_func for each in library.gradient}
    found |= {each.gradient_func for each in library.registered_gradients}
    for function in library.function:
        if "api_implements" in function.attr:  # may take another function's place
            found.add(function.signature.name)
        for node in function.node_def:
            found |= {node.op} & functions
            for value in node.attr.values():
                found |= {value.func.name, *(each.name for each in value.list.func)}
    return found


def _named(also: frozenset[str]) -> str:
    return " or texts" * bool(also & TEXTS) + " or pictures" * bool(also & PICTURES)


def _is_of(name: str, also: frozenset[str]) -> bool:
    return name in also or (bool(also & TEXTS) and name.startswith(TEXT_LIBRARY))


def _computes(name: str) -> bool:
    """Whether an operation takes and gives numbers only."""
    operation = op_def_registry.get(name)
    if operation is None or name[0] == "_" or any(part in name for part in NEVER):
        return False
    arguments = (*operation.input_arg, *operation.output_arg)
    if any(each.type == types_pb2.DT_STRING for each in arguments):
        return False
    return name in NAMED or not any(
        each.type in ("string", "list(string)") and not each.HasField("allowed_values")
        for each in operation.attr
    )
