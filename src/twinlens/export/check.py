"""An export proves itself in a process of its own, before anybody relies on it."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from twinlens.errors import InputError
from twinlens.export.samples import Arrays

TOLERANCE = 1e-5  # between numbers of the run and of its export, in float32
FRESH = Path(__file__).with_name("fresh.py")
SHOWN = 600  # last letters of what a process that failed has said


def ask(
    folder: Path, asked: Mapping[str, Arrays], packages: Sequence[str]
) -> dict[str, Arrays]:
    """What a SavedModel answers in a fresh process without twinlens.

    Args:
        folder: of the SavedModel.
        asked: inputs by endpoint.
        packages: imported beside tensorflow.

    Returns:
        Outputs by endpoint.

    Raises:
        InputError: it cannot be loaded there, or not be asked.
    """
    with tempfile.TemporaryDirectory() as place:
        inputs, outputs = Path(place) / "asked", Path(place) / "answers"
        for endpoint, arrays in asked.items():
            (inputs / endpoint).mkdir(parents=True)
            for name, value in arrays.items():
                data = tf.io.serialize_tensor(tf.constant(value)).numpy()
                (inputs / endpoint / name).write_bytes(data)
        program = [sys.executable, "-I", FRESH, folder, inputs, outputs]
        done = subprocess.run([*program, *packages], capture_output=True, text=True)
        if done.returncode:
            raise InputError(
                "The export cannot be used in a process of its own, so it is not "
                f"kept. That process said: …{done.stderr.strip()[-SHOWN:]}"
            )
        return {name: _read(outputs / name) for name in asked}


def _read(folder: Path) -> Arrays:
    found = {}
    for path in folder.iterdir():
        proto = tensor_pb2.TensorProto.FromString(path.read_bytes())
        array = tf.make_ndarray(proto)
        is_text = array.dtype == object
        found[path.name] = np.vectorize(bytes.decode)(array) if is_text else array
    return found


def differences(
    found: Mapping[str, Arrays], expected: Mapping[str, Arrays]
) -> dict[str, float]:
    """The largest absolute difference by endpoint; infinite where words differ."""
    return {
        name: max(
            _difference(outputs, expected[name], output) for output in expected[name]
        )
        for name, outputs in found.items()
    }


def _difference(found: Arrays, expected: Arrays, name: str) -> float:
    own, right = np.asarray(found[name]), np.asarray(expected[name])
    if own.shape != right.shape:
        return np.inf
    if right.dtype.kind == "f":
        gaps = np.abs(own - right)
        return float(np.max(np.where(np.isnan(gaps), np.inf, gaps), initial=0.0))
    differs = own != right
    if "scores" in expected:  # answers that are alike may change places
        differs &= ~_alike(expected["scores"])
    return np.inf if differs.any() else 0.0


def _alike(scores: np.ndarray) -> np.ndarray:
    """Which of `(q, k)` descending scores are too near to the next to be told apart.

    Of the last ones nobody knows, as the next was not among the answers.
    """
    near = -np.diff(scores, axis=1) <= 2 * TOLERANCE
    last = np.ones((len(scores), 1), bool)
    return np.hstack([near, last]) | np.hstack([np.zeros_like(last), near])


def refuse_differing(found: Mapping[str, float], tolerance: float, what: str) -> None:
    """Refuses an export that answers otherwise than its run.

    Args:
        found: the largest difference by endpoint.
        tolerance: the largest that is allowed.
        what: it is, for people.

    Raises:
        InputError: names the endpoints and their differences.
    """
    wrong = {name: gap for name, gap in found.items() if not gap <= tolerance}
    if wrong:
        told = ", ".join(f"{name} by {gap:.3g}" for name, gap in wrong.items())
        raise InputError(
            f"{what} differs from the run: {told}; at most {tolerance:g} is allowed. "
            "It was deleted. Search with the run itself, and report this with the "
            "run's config.toml and versions.json."
        )
