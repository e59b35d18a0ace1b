"""Features from a process in which Keras runs on TensorFlow.

Encoders are TensorFlow's work. Where Keras runs on another backend, a process of its
own reads the cache, or fills it, and says where it is.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)  # before it comes with the features, for all to see

from twinlens.backend import CHOICE, TENSORFLOW  # noqa: E402
from twinlens.config import Config, load_config, to_toml  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.features.store import Features, read  # noqa: E402


def encoded_apart(config: Config) -> tuple[Features, Features]:
    """Features of all pictures and captions that the settings name.

    Raises:
        InputError: what encoding them raises.
    """
    with tempfile.TemporaryDirectory() as name:
        settings, answer = Path(name) / "settings.toml", Path(name) / "answer.json"
        settings.write_text(to_toml(config), "utf-8")
        arguments = [sys.executable, "-m", __name__, str(settings), str(answer)]
        ended = subprocess.run(arguments, env=_environment()).returncode
        if not answer.exists():
            raise RuntimeError(
                f"The process that encodes ended with status {ended}; what it said is "
                "above."
            )
        said = json.loads(answer.read_text("utf-8"))
    if "error" in said:
        raise InputError(said["error"])
    return read(Path(said["images"])), read(Path(said["texts"]))


def _environment() -> dict[str, str]:
    """This one's, with the other backend and this code first on the path."""
    own = str(Path(__file__).parents[1])
    path = os.pathsep.join([own, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, CHOICE: TENSORFLOW, "PYTHONPATH": path}


def main(settings: str, answer: str) -> None:
    """Encodes what is not cached yet, and writes the folders, or what is wrong."""
    from twinlens.experiment import Experiment

    experiment = Experiment(load_config(settings))
    try:
        found = {
            "images": str(experiment.images.folder),
            "texts": str(experiment.texts.folder),
        }
    except InputError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
