"""TensorFlow without its start-up noise, and beside another backend of Keras."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from twinlens.backend import JAX, check_choice


def import_tensorflow() -> None:
    """Imports TensorFlow, silently unless that fails.

    TensorFlow 2.21 writes log lines straight to file descriptor 2 while it is
    imported, whatever `TF_CPP_MIN_LOG_LEVEL` says; later ones obey it. Where Keras
    runs on another backend, TensorFlow still reads texts and pictures, on the CPU.

    Raises:
        InputError: `KERAS_BACKEND` is none that there is.
    """
    check_choice()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    with stderr_kept_back():
        import tensorflow
        import tensorflow_text  # noqa: F401
    tensorflow.get_logger().setLevel("ERROR")  # one graph a network is no retracing
    if os.environ.get("KERAS_BACKEND") == JAX:  # whose memory accelerators hold
        tensorflow.config.set_visible_devices([], "GPU")
        # Keras asks for 64 bits where 32 do: counts of steps, shapes.
        warnings.filterwarnings("ignore", "Explicitly requested dtype int64")


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
