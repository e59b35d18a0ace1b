"""The tiny run, exported; asked in this process, where a fresh one takes seconds."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tiny

from twinlens.export import export_model, load_export
from twinlens.export.endpoints import endpoints_of
from twinlens.export.saved import write_saved_models
from twinlens.export.towers import Towers


def ask_here(folder, asked, packages):
    """As `check.ask`, without the process."""
    loaded = tf.saved_model.load(str(folder))
    return {
        name: {
            output: _text(value.numpy())
            for output, value in loaded.signatures[name](
                **{key: tf.constant(each) for key, each in inputs.items()}
            ).items()
        }
        for name, inputs in asked.items()
    }


def _text(array):
    is_text = array.dtype == object
    return np.vectorize(bytes.decode)(array) if is_text else array


def endpoints_here(model, folder):
    """The endpoints of a model, saved and loaded; what it needs and what holds it."""
    towers = Towers(model)
    custom = write_saved_models(towers, endpoints_of(towers), folder)
    loaded = tf.saved_model.load(str(folder))
    return SimpleNamespace(ask=loaded.signatures, custom=custom, loaded=loaded)


@pytest.fixture(scope="session")
def exported(trained, index, tmp_path_factory):
    """An export with a collection: its folder, what was said, and itself loaded."""
    folder, said = tmp_path_factory.mktemp("export") / "tiny", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twinlens.export.write.ask", ask_here)
        patch.setattr("twinlens.experiment.image_encoder", tiny._image_encoder)
        patch.setattr("twinlens.experiment.text_encoder", tiny._text_encoder_of)
        export_model(trained.folder, folder, index.vectors.folder, say=said.append)
    return SimpleNamespace(folder=folder, said=said, export=load_export(folder))
