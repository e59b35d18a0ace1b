"""TensorFlow without its start-up noise."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow, silently unless that fails.

    TensorFlow 2.21 writes log lines straight to file descriptor 2 while it is
    imported, whatever `TF_CPP_MIN_LOG_LEVEL` says; later ones obey it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    with stderr_kept_back():
        import tensorflow
        import tensorflow_text  # noqa: F401
    tensorflow.get_logger().setLevel("ERROR")  # one graph a network is no retracing


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
