"""Local folders of text networks: what is missing, what they say about themselves."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.encoders.checkpoint import FILE, INDEX
from twinlens.errors import InputError

KERAS_FILES = ("task.json", "model.weights.h5")  # KerasHub's own layout
POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}


@dataclass(frozen=True)
class SentenceModules:
    """What a sentence-transformers folder does after its transformer.

    Attributes:
        transformer: folder of the network itself.
        poolings: over tokens, joined in this order.
        dense: folders of linear layers, in order.
        normalise: whether vectors have length one.
        sequence_length: tokens that a text is cut to; 0 where it does not say.
        lowercase: whether texts are lowercased first.
    """

    transformer: Path
    poolings: tuple[str, ...]
    dense: tuple[Path, ...]
    normalise: bool
    sequence_length: int
    lowercase: bool


def read_json(path: Path, setting: str) -> dict[str, Any]:
    """A JSON file of a folder.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{setting}: {path} is no JSON ({error}).") from None


def tokenizer_config(weights: str, setting: str) -> dict[str, Any]:
    """What a folder says about its tokenizer; nothing where weights are no folder."""
    file = Path(weights) / "tokenizer_config.json"
    return read_json(file, setting) if file.is_file() else {}


@contextlib.contextmanager
def reading_sizes(folder: Path, setting: str) -> Iterator[None]:
    """Names the size that `config.json` lacks.

    Raises:
        InputError: inside, a key was missing.
    """
    try:
        yield
    except KeyError as error:
        raise InputError(
            f"{setting}: {folder / 'config.json'} does not say {error}. Copy it from "
            "the network's own folder."
        ) from None


def is_hugging_face(weights: str, setting: str) -> bool:
    """Whether weights are a local folder in Hugging Face's layout.

    Raises:
        InputError: they look like a path, but there is no such folder.
    """
    folder = Path(weights)
    if not folder.exists() and ("/" in weights or weights.startswith(".")):
        raise InputError(f"{setting} is {weights!r}, but there is no such folder.")
    return folder.is_dir() and not any((folder / n).exists() for n in KERAS_FILES)


def check_folder(
    folder: Path,
    model_type: str,
    vocabulary: Sequence[str],
    setting: str,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Looks through a Hugging Face folder before anything is built.

    Args:
        folder: to be read.
        model_type: that `config.json` has to name.
        vocabulary: files that the tokenizer needs.
        setting: whose value the folder is.
        others: encoders that read other kinds of network.

    Returns:
        `config.json`.

    Raises:
        InputError: names what is missing, or what the folder holds instead.
    """
    weights = [] if (folder / INDEX).is_file() else [FILE]
    needed = ["config.json", *weights, *vocabulary]
    missing = [name for name in needed if not (folder / name).is_file()]
    config = {}
    if "config.json" not in missing:
        config = read_json(folder / "config.json", setting)
    found = config.get("model_type", model_type)
    if found == model_type and missing:
        raise InputError(
            f"{setting} is the folder {folder}, which lacks {', '.join(missing)}. "
            f"A local Hugging Face folder needs {', '.join(needed)}."
            + _pickled(folder, missing)
        )
    if found != model_type:
        name = str(found).replace("-", "_")
        section = setting.partition(".")[0]
        hint = f" Set {section}.name={name}." if name in others else ""
        raise InputError(
            f"{setting} is the folder {folder} of model_type {found!r}, but this "
            f"encoder reads {model_type!r}.{hint}"
        )
    return config


def check_vocabulary(
    tokenizer: Any, config: dict[str, Any], folder: Path, setting: str
) -> None:
    """Refuses a tokenizer whose tokens the network does not know.

    Raises:
        InputError: it has more tokens than the network.
    """
    found, known = tokenizer.vocabulary_size(), config["vocab_size"]
    if found > known:
        raise InputError(
            f"{setting} is the folder {folder}, whose tokenizer has {found} tokens, "
            f"but the network only {known}. Take the tokenizer's files of the same "
            "network."
        )


def _pickled(folder: Path, missing: list[str]) -> str:
    if FILE not in missing or not (folder / "pytorch_model.bin").is_file():
        return ""
    return (
        " It has pytorch_model.bin, a pickle that can run any code; make "
        f"{FILE} of it with `transformers`: AutoModel.from_pretrained(folder)"
        ".save_pretrained(folder)."
    )


def sentence_modules(weights: str, setting: str) -> SentenceModules | None:
    """What `modules.json` of a sentence-transformers folder says; none without it.

    Raises:
        InputError: a module or a pooling that is not known here.
    """
    folder = Path(weights)
    if not (folder / "modules.json").is_file():
        return None
    transformer, poolings, dense, normalise = folder, ("mean",), [], False
    for module in read_json(folder / "modules.json", setting):
        kind, path = module["type"].rsplit(".", 1)[-1], folder / module["path"]
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            poolings = _poolings(path / "config.json", setting)
        elif kind == "Dense":
            dense.append(path)
        elif kind == "Normalize":
            normalise = True
        else:
            raise InputError(
                f"{setting} is the sentence-transformers folder {folder} with a module "
                f"{kind!r}. Known: Transformer, Pooling, Dense, Normalize."
            )
    said = transformer / "sentence_bert_config.json"
    more = read_json(said, setting) if said.is_file() else {}
    return SentenceModules(
        transformer,
        poolings,
        tuple(dense),
        normalise,
        more.get("max_seq_length") or 0,
        bool(more.get("do_lower_case")),
    )


def _poolings(path: Path, setting: str) -> tuple[str, ...]:
    config = read_json(path, setting)
    said = config.get("pooling_mode")  # of later versions; before, one flag for each
    names = [said] if isinstance(said, str) else list(said or [])
    if not names:
        flags = [name for name in config if name.startswith("pooling_mode_")]
        names = [f.removeprefix("pooling_mode_") for f in flags if config[f]]
    found = tuple(POOLINGS.get(name, name) for name in names)
    unknown = [name for name in found if name not in POOLINGS.values()]
    if unknown or not found:
        raise InputError(
            f"{setting}: {path} asks for the pooling {', '.join(unknown) or 'none'}. "
            f"Known: {', '.join(POOLINGS.values())}."
        )
    return found
