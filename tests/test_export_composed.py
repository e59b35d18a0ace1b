"""A run with a fusion is exported with its composed queries."""

import numpy as np
import pytest
import tensorflow as tf
from composed_searching import composed as composed
from exported import ask_here, endpoints_here

from twinlens.export import export_model, write_embeddings

pytestmark = pytest.mark.slow  # its run is made anew for this file

WISHES = ["make the circle red", "remove the square"]


@pytest.fixture(scope="module")
def ask(composed, tmp_path_factory):
    found = endpoints_here(composed.model, tmp_path_factory.mktemp("x") / "export")
    yield found.ask
    del found


@pytest.fixture
def contents(composed):
    paths = composed.index.vectors.items["image_path"].iloc[[3, 11]]
    return [open(path, "rb").read() for path in paths]


def test_pictures_and_wishes_become_the_run_s_queries(composed, ask, contents):
    model = composed.model
    right = model.compose(model.image_features(contents), WISHES)
    found = ask["compose"](images=tf.constant(contents), texts=tf.constant(WISHES))
    np.testing.assert_allclose(found["embedding"], right, atol=1e-5)
    alone = ask["encode_text"](texts=tf.constant(WISHES))["embedding"]
    assert np.abs(alone - right).max() > 0.01  # the picture counts


def test_a_wish_alone_is_a_query_without_a_picture(composed, ask):
    right = composed.model.embed_texts(WISHES)
    found = ask["encode_text"](texts=tf.constant(WISHES))
    np.testing.assert_allclose(found["embedding"], right, atol=1e-5)
    tokens = ask["tokenize"](texts=tf.constant(WISHES))
    found = ask["encode_tokens"](**tokens)
    np.testing.assert_allclose(found["embedding"], right, atol=1e-5)


def test_the_whole_run_with_its_index_is_exported(composed, tmp_path, monkeypatch):
    monkeypatch.setattr("twinlens.export.write.ask", ask_here)
    folder = composed.index.vectors.folder
    said = export_model(composed.folder, tmp_path / "x", folder, say=str)
    found = said["check"]["differences"]
    assert found.keys() >= {"compose", "search_text", "search_image", "encode_text"}
    assert max(found.values()) <= 1e-5
    card = (tmp_path / "x" / "MODEL_CARD.md").read_text("utf-8")
    assert "the fusion `attention` makes one query of both" in card
    rows = write_embeddings(composed.folder, tmp_path / "e.npy")
    assert rows["kind"].value_counts()["picture"] == len(composed.index)
    wish = rows.index[rows["kind"] == "text"][0]
    right = composed.model.embed_texts([rows["text"][wish]])[0]
    np.testing.assert_allclose(np.load(tmp_path / "e.npy")[wish], right, atol=1e-5)


def test_as_many_pictures_as_wishes(ask, contents):
    nothing = tf.constant([], tf.string)
    found = ask["compose"](images=nothing, texts=nothing)
    assert found["embedding"].shape == (0, 8)
    for images in (contents[:1], []):
        with pytest.raises(tf.errors.InvalidArgumentError, match="as many pictures"):
            ask["compose"](
                images=tf.constant(images, tf.string), texts=tf.constant(WISHES)
            )
