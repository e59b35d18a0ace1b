"""A collection inside an exported model answers as the index does, exactly."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tiny
from searching import BOTH

from twinlens.config import IndexSettings, SearchSettings
from twinlens.errors import InputError
from twinlens.export import collection as module
from twinlens.export import export_model
from twinlens.export.collection import Collection
from twinlens.index import create
from twinlens.search import SearchIndex, build_index


def by_hand(folder, vectors, fields, removed=(), weights=None):
    """An index of given vectors, and a collection of it."""
    index = create(folder, fields, IndexSettings(fields=tuple(fields)), {"name": "x"})
    names = [f"i{number}" for number in range(len(vectors))]
    items = pd.DataFrame({"id": names, "image_path": "", "title": names, "split": ""})
    index.add(items, [np.float32(vectors)])
    if removed:
        index.remove(removed)
    defaults = SearchSettings(weights=weights or {})
    return Collection(SearchIndex(index, defaults, ""), SimpleNamespace())


def ids_of(found):
    return [[each.decode() for each in row] for row in found["ids"].numpy()]


def test_equal_scores_keep_the_order_of_the_index_also_across_blocks(
    tmp_path, monkeypatch
):
    vectors = [[0, 1], [1, 0], [1, 0], [0, 1], [1, 0], [0.6, 0.8], [1, 0]]
    items = by_hand(tmp_path / "i", vectors, {"image": 2}, removed=["i2"])
    for block in (2, 3, 100):
        monkeypatch.setattr(module, "BLOCK", block)
        found = items.best(tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant(5))
        assert ids_of(found) == [
            ["i1", "i4", "i6", "i5", "i0"],  # 1, 1, 1, 0.6, 0; i2 was removed
            ["i0", "i3", "i5", "i1", "i4"],  # 1, 1, 0.8, 0, 0
        ]


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_in_blocks_as_at_once(tmp_path, random, monkeypatch, block):
    vectors = random.normal(size=(300, 5)).astype("float32")
    queries = random.normal(size=(4, 5)).astype("float32")
    items = by_hand(tmp_path / "i", vectors, {"image": 5})
    monkeypatch.setattr(module, "BLOCK", block)
    found = items.best(tf.constant(queries), tf.constant(20))
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1)[:, :20]
    assert ids_of(found) == [[f"i{place}" for place in row] for row in order]
    np.testing.assert_allclose(
        found["scores"], np.take_along_axis(scores, order, 1), rtol=1e-5
    )


def test_weights_of_fields_are_the_index_s_own(tmp_path):
    vectors = [[1, 0, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0]]  # image, title, a kind
    fields = {"image": 2, "title": 2, "attribute:kind": 2}
    weights = {"image": 3, "title": 1, "attribute:kind": 4}
    items = by_hand(tmp_path / "i", vectors, fields, weights=weights)
    queries = items._queries(tf.constant([[0.6, 0.8]]))
    found = items.best(queries, tf.constant(2))
    # image 3/8 · 0.6 + title 1/8 · 0.8; image 3/8 · 0.8 + title 1/8 · 0.6
    np.testing.assert_allclose(found["scores"], [[0.375, 0.325]], rtol=1e-6)
    assert ids_of(found) == [["i1", "i0"]]
    assert items.vectors.shape == (2, 4)  # what no query speaks of is left out


def test_a_field_without_a_weight_is_left_out(tmp_path):
    fields = {"image": 2, "title": 2}
    items = by_hand(tmp_path / "i", [[1, 0, 0, 1]], fields, weights={"title": 2})
    assert items.vectors.numpy().tolist() == [[0, 1]]


def test_pictures_speak_about_image_features_and_texts_do_not(tmp_path):
    items = by_hand(tmp_path / "i", [[1, 0], [0.6, 0.8]], {"image_feature": 2})
    assert not items.takes_texts
    queries = items._queries(tf.zeros((1, 8)), tf.constant([[0.0, 9.0]]))
    assert ids_of(items.best(queries, tf.constant(1))) == [["i1"]]


def test_an_index_that_no_query_speaks_about_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither a text nor a picture"):
        by_hand(tmp_path / "i", [[1, 0]], {"attribute:kind": 2})
    with pytest.raises(InputError, match="is empty"):
        by_hand(tmp_path / "j", [[1, 0]], {"image": 2}, removed=["i0"])


# === Mistakes ===


def test_an_index_of_another_model_is_refused(
    trained, model, items, tmp_path, monkeypatch
):
    monkeypatch.setattr("twinlens.experiment.image_encoder", tiny._image_encoder)
    monkeypatch.setattr("twinlens.experiment.text_encoder", tiny._text_encoder_of)
    other = build_index(model, items, tmp_path / "i", BOTH)
    other.vectors.note(model=other.vectors.info["model"] | {"digest": "f" * 32})
    with pytest.raises(InputError, match="another model"):
        export_model(trained.folder, tmp_path / "x", tmp_path / "i", say=str)
    assert not (tmp_path / "x").exists()
