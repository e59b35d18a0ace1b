"""Asks a SavedModel in a process that has TensorFlow and nothing of twinlens.

`check` runs this file: `python -I fresh.py MODEL ASKED ANSWERS PACKAGE …`. `ASKED`
holds a folder for each endpoint with a serialised tensor for each input; the outputs
go into `ANSWERS` in the same way. The packages are imported before the model is loaded.
"""

import importlib
import sys
from pathlib import Path

import tensorflow as tf

ABSENT = ("twinlens", "keras_hub")


def main(model: str, asked: str, answers: str, *packages: str) -> None:
    """Asks every endpoint that `asked` has a folder for."""
    sys.modules.update(dict.fromkeys(ABSENT))  # importing them fails from here on
    for package in packages:
        importlib.import_module(package)
    loaded = tf.saved_model.load(model)
    for folder in sorted(Path(asked).iterdir()):
        endpoint = loaded.signatures[folder.name]
        specs = endpoint.structured_input_signature[1]
        inputs = {
            name: tf.io.parse_tensor((folder / name).read_bytes(), spec.dtype)
            for name, spec in specs.items()
        }
        to = Path(answers) / folder.name
        to.mkdir(parents=True)
        for name, value in endpoint(**inputs).items():
            (to / name).write_bytes(tf.io.serialize_tensor(value).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
