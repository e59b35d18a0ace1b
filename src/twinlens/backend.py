"""Which of Keras' backends computes, and what only TensorFlow's can do."""

import importlib.util
import os

from twinlens.errors import InputError

TENSORFLOW, JAX = "tensorflow", "jax"
CHOICE = "KERAS_BACKEND"  # the environment variable that Keras reads
INSTEAD = f"Give the same command without {CHOICE}, or with {CHOICE}=tensorflow"


def check_choice() -> None:
    """Refuses a backend that is not there, before Keras is imported.

    Raises:
        InputError: `KERAS_BACKEND` names none of ours, or JAX is not installed.
    """
    chosen = os.environ.get(CHOICE) or TENSORFLOW
    if chosen not in (TENSORFLOW, JAX):
        raise InputError(
            f"{CHOICE} is {chosen!r}. Phase 1 trains and is measured on {TENSORFLOW} "
            f"or {JAX}, all else on {TENSORFLOW}. {INSTEAD}."
        )
    if chosen == JAX and importlib.util.find_spec("jax") is None:
        raise InputError(
            f'{CHOICE} is {JAX!r}, which is not installed: pip install "twinlens[jax]".'
        )


def backend() -> str:
    """The backend that computes: `TENSORFLOW` or `JAX`.

    Raises:
        InputError: Keras was imported with another one.
    """
    import keras

    name = keras.backend.backend()
    if name not in (TENSORFLOW, JAX):
        raise InputError(
            f"Keras computes on {name}; twinlens knows {TENSORFLOW} and {JAX}. "
            f"{INSTEAD}."
        )
    return name


def need_tensorflow(what: str) -> None:
    """Refuses what only works where Keras runs on TensorFlow.

    Args:
        what: in words, at the start of a sentence, for many: `"Encoders"`.

    Raises:
        InputError: another backend computes.
    """
    if backend() != TENSORFLOW:
        raise InputError(
            f"{what} run on Keras' TensorFlow backend only; {CHOICE}={backend()} "
            f"trains and measures the heads of phase 1, on pairs. {INSTEAD}."
        )
