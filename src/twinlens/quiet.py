"""TensorFlow without its start-up noise, and beside another backend of Keras."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator

from twinlens.backend import JAX, check_choice

# What TensorFlow and Keras import where it is there, for uses that no command has:
# a converter of TensorFlow Lite, plots of Keras, its wrappers for scikit-learn.
FOR_OTHERS = ("jax", "matplotlib", "sklearn")


def import_tensorflow(lean: bool = False) -> None:
    """Imports TensorFlow, silently unless that fails.

    TensorFlow 2.21 writes log lines straight to file descriptor 2 while it is
    imported, whatever `TF_CPP_MIN_LOG_LEVEL` says; later ones obey it. Where Keras
    runs on another backend, TensorFlow still reads texts and pictures, on the CPU.

    Args:
        lean: without packages that no command needs here (`FOR_OTHERS`): it starts a
            second earlier where they are installed. Imported later, they are whole.

    Raises:
        InputError: `KERAS_BACKEND` is none that there is.
    """
    check_choice()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    jax_runs = os.environ.get("KERAS_BACKEND") == JAX
    absent = FOR_OTHERS if lean and not jax_runs else ()
    with stderr_kept_back(), without(absent):
        import tensorflow
        import tensorflow_text  # noqa: F401
    tensorflow.get_logger().setLevel("ERROR")  # one graph a network is no retracing
    if jax_runs:  # accelerators hold its memory
        tensorflow.config.set_visible_devices([], "GPU")
        # Keras asks for 64 bits where 32 do: counts of steps, shapes.
        warnings.filterwarnings("ignore", "Explicitly requested dtype int64")


@contextlib.contextmanager
def without(names: Iterable[str]) -> Iterator[None]:
    """Inside, packages that are not imported yet cannot be."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name)


@contextlib.contextmanager
def stderr_kept_back() -> Iterator[None]:
    """Keeps what is written to file descriptor 2; shows it if an error follows."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
