"""Text encoders against transformers and sentence-transformers themselves."""

import numpy as np
import pytest
import tensorflow as tf

from parity.text_families import MODELS, TEXTS, make
from twinlens.data.table import load
from twinlens.encoders import text_encoder

pytestmark = pytest.mark.parity
CAPTIONS = 200


@pytest.mark.parametrize("family", MODELS)
def test_a_new_random_folder_has_the_states_of_transformers(tmp_path, family):
    make(family, tmp_path)
    golden = np.load(tmp_path / "golden.npz")
    made = text_encoder(family, str(tmp_path))
    ids = made.tokenize(tf.constant(TEXTS)).to_list()
    found = made.model(made.inputs_of(tf.constant(TEXTS)), training=False).numpy()
    for number in range(len(TEXTS)):
        assert ids[number] == golden[f"ids{number}"].tolist()
        expected = golden[f"states{number}"][-1].mean(axis=0)
        np.testing.assert_allclose(found[number], expected, atol=1e-4)


@pytest.mark.real
def test_minilm_embeds_captions_as_sentence_transformers_does(shared):
    from sentence_transformers import SentenceTransformer

    table = load("flickr8k", shared / "data" / "flickr8k").table
    captions = table["caption"].drop_duplicates().head(CAPTIONS).tolist()
    folder = str(shared / "models" / "minilm_l6")
    theirs = SentenceTransformer(folder, device="cpu").encode(captions)
    made = text_encoder("bert", folder, sequence_length=128)
    ours = made.model(made.inputs_of(tf.constant(captions)), training=False).numpy()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs)]
    assert np.abs(unit[0] - unit[1]).max() < 1e-3
