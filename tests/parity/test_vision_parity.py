"""The golden folders, made anew with `transformers`: `pytest -m parity`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden_pairs import FOLDERS, LENGTH, PAIRS, TEXTS, golden, pixels  # noqa: E402

KINDS = ("vit", "deit", "dinov2", "dinov2_registers", "dinov3")
SCRIPT = Path(__file__).with_name("make_vision.py")
pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """The folders as this machine's `transformers` makes them."""
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("folders")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, SCRIPT, home], check=True, env=environment)
    return home


@pytest.mark.parametrize("name", [*KINDS, *PAIRS])
def test_the_kept_values_are_those_of_transformers(anew, name):
    kept, fresh = golden(name, FOLDERS), golden(name, anew)
    assert kept.keys() == fresh.keys()
    for key, value in kept.items():
        np.testing.assert_allclose(fresh[key], value, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("name", [*KINDS, *PAIRS])
def test_features_are_those_of_transformers(anew, name):
    import tensorflow as tf

    from twinlens.encoders import image_encoder, text_encoder

    kind, wanted = name.partition("_registers")[0], golden(name, anew)
    images = image_encoder(kind, str(anew / name), image_size=24)
    seen = wanted["image_projection"] if name in PAIRS else wanted["last_24"][:, 0]
    np.testing.assert_allclose(images.model(pixels(24)), seen, atol=1e-4)
    if name in PAIRS:
        texts = text_encoder(kind, str(anew / name), sequence_length=LENGTH)
        found = texts.model(texts.inputs_of(tf.constant(TEXTS)))
        np.testing.assert_allclose(found, wanted["text_projection"], atol=1e-4)
