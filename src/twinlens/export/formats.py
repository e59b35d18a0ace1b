"""Other forms of both towers, for runtimes other than TensorFlow."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinlens.errors import InputError
from twinlens.export import litert, onnx
from twinlens.export.samples import Arrays
from twinlens.export.towers import Towers


@dataclass(frozen=True)
class Format:
    """One form.

    Attributes:
        title: its name for people.
        packages: that it needs, by their import names; the extra has the form's name.
        write: puts one file for each tower into a folder.
        ask: runs these files on the inputs of `encode_pixels` and `encode_tokens`.
        tolerance: of embeddings against the run's: other kernels sum in another order.
    """

    title: str
    packages: tuple[str, ...]
    write: Callable[[Towers, Path], None]
    ask: Callable[[Path, Mapping[str, Arrays]], dict[str, Arrays]]
    tolerance: float = 1e-4


FORMATS = {
    "onnx": Format("ONNX", ("tf2onnx", "onnxruntime"), onnx.write_onnx, onnx.ask_onnx),
    "litert": Format(
        "LiteRT", ("ai_edge_litert",), litert.write_litert, litert.ask_litert
    ),
}


def check_formats(names: Sequence[str]) -> None:
    """Refuses forms that are not known or whose packages are missing.

    Raises:
        InputError: names the extra to install.
    """
    for name in names:
        if name not in FORMATS:
            raise InputError(f"There is no form {name!r}. Known: {', '.join(FORMATS)}.")
        missing = [
            each
            for each in FORMATS[name].packages
            if importlib.util.find_spec(each) is None
        ]
        if missing:
            raise InputError(
                f"{FORMATS[name].title} needs {' and '.join(missing)}, which is not "
                f'installed: pip install "twinlens[{name}]".'
            )
