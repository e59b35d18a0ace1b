"""A training's state in one file, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.errors import InputError
from twinlens.writing import whole_file


def save_checkpoint(
    path: Path, state: list, best: list[np.ndarray], progress: dict[str, Any]
) -> None:
    """Writes a checkpoint.

    Args:
        path: an `.npz` file; the one before is replaced when this one is on disk.
        state: variables of the trainer, in their fixed order.
        best: values of the heads' variables at the best evaluation; may be empty.
        progress: plain values: epochs done, history, best metric.

    Raises:
        InputError: it cannot be written; the one before is kept.
    """
    arrays = {f"state_{i}": variable.numpy() for i, variable in enumerate(state)}
    arrays |= {f"best_{i}": value for i, value in enumerate(best)}
    text = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    with whole_file(path) as partial:
        np.savez(partial, progress=text, **arrays)


def load_checkpoint(
    path: Path, state: list
) -> tuple[list[np.ndarray], dict[str, Any]] | None:
    """Puts a checkpoint's values into `state`; `None` where there is no file.

    Returns:
        The best values and the progress that were saved.

    Raises:
        InputError: the file is damaged or belongs to other heads.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = [arrays[f"state_{i}"] for i in range(len(state))]
            best = [arrays[n] for n in sorted(arrays, key=_number) if n[:5] == "best_"]
            progress = json.loads(arrays["progress"].tobytes())
    except Exception as error:  # zipfile, NumPy and json raise many kinds
        raise InputError(
            f"The checkpoint {path} cannot be read ({error}). "
            "Start this training anew with --restart."
        ) from None
    for variable, value in zip(state, values, strict=True):
        variable.assign(value)
    return best, progress


def _number(name: str) -> int:
    return int(name.rpartition("_")[2]) if name[-1].isdigit() else -1
