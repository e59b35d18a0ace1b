"""Tensors of a local Hugging Face folder, into Keras layers, with plain errors."""

import json
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from twinlens.errors import InputError

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of a checkpoint in several files


class Checkpoint:
    """The tensors of a folder.

    Args:
        folder: with `model.safetensors`, or several files and their index.
        anchor: a tensor that every network of the kind has.
        prefixes: what may stand before all names, as `"bert."`.
        setting: whose value the folder is, for people.

    Raises:
        InputError: the file cannot be read, or is of another kind of network.
    """

    def __init__(
        self, folder: Path, anchor: str, prefixes: Iterable[str], setting: str
    ) -> None:
        self.folder, self.setting = folder, setting
        self._files = self._open()
        found = [p for p in ("", *prefixes) if p + anchor in self._files]
        if not found:
            some = ", ".join(sorted(self._files)[:3])
            raise InputError(
                f"{setting} is the folder {folder}, but its weights hold no tensor "
                f"{anchor!r}; they begin with {some}. Give the folder of the network "
                "that config.json names."
            )
        self._prefix = found[0]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._files

    def tensor(self, name: str) -> np.ndarray:
        """A tensor in float32.

        Raises:
            InputError: there is none of this name.
        """
        whole = self._prefix + name
        if whole not in self._files:
            raise InputError(
                f"{self.setting} is the folder {self.folder}, whose weights lack the "
                f"tensor {whole!r}. Copy the folder again, or take the network's "
                "own weights."
            )
        return self._files[whole].get_tensor(whole).astype(np.float32)

    def fill(self, layer: keras.layers.Layer, name: str) -> None:
        """Copies `name.weight` and `name.bias` into a layer of one or two weights."""
        is_table = isinstance(layer, keras.layers.Embedding)
        for variable, kind in zip(layer.weights, ("weight", "bias"), strict=False):
            value = self.tensor(f"{name}.{kind}")
            if kind == "weight" and not is_table:
                value = _turned(value)
            self.assign(variable, value, f"{name}.{kind}")

    def assign(self, variable, value: np.ndarray, name: str) -> None:
        """Copies a value into a variable of as many numbers.

        Raises:
            InputError: it has another size: the weights of another network.
        """
        if value.size != np.prod(variable.shape):
            raise InputError(
                f"{self.setting} is the folder {self.folder}, where the tensor "
                f"{self._prefix + name!r} has the shape {value.shape}, but the network "
                f"that config.json describes needs {tuple(variable.shape)}. The two "
                "belong to different networks."
            )
        variable.assign(value.reshape(variable.shape))

    def _open(self) -> dict:
        """Each tensor's name with the open file it is in."""
        from safetensors import SafetensorError, safe_open

        index, found = self.folder / INDEX, {}
        names = [FILE]
        if index.is_file():
            weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
            names = sorted(set(weight_map.values()))
        for name in names:
            try:
                file = safe_open(self.folder / name, framework="np")
            except (OSError, SafetensorError) as error:
                raise InputError(
                    f"{self.setting} is the folder {self.folder}, whose {name} cannot "
                    f"be read: {error}. Copy it again; a download may have stopped."
                ) from None
            found |= dict.fromkeys(file.keys(), file)
        return found


def _turned(value: np.ndarray) -> np.ndarray:
    """From PyTorch's order of axes to Keras': outputs last."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T
