"""Pairs of features and the order in which an epoch shows them."""

import numpy as np
import pandas as pd
import pytest
from test_training import CAPTIONS, made_pairs

from twinlens.errors import InputError
from twinlens.features import Features
from twinlens.training.pairs import epoch_order, pair_features, statistics


def test_pairs_keep_each_caption_with_its_picture():
    table = pd.DataFrame(
        {
            "image_id": ["b", "a", "b", "broken", "a"],
            "caption": ["b one", "a one", "same", "x", "same"],
        }
    )
    ids = np.array(["a", "b", "broken"], dtype=object)
    images = Features(np.eye(3), ids, np.array(["", "", "cut"], dtype=object), None)
    names = np.array(["x", "same", "b one", "a one"], dtype=object)
    texts = Features(np.eye(4), names, np.full(4, "", dtype=object), None)
    pairs = pair_features(table, images, texts)
    assert list(pairs.image_ids) == ["b", "a"]
    np.testing.assert_array_equal(pairs.image_rows, [1, 0])
    np.testing.assert_array_equal(pairs.text_rows, [2, 1, 3, 1])
    np.testing.assert_array_equal(pairs.picture_of_caption, [0, 0, 1, 1])


def test_an_epoch_shows_each_picture_at_most_once_with_its_own_captions():
    pairs = made_pairs(pictures=50, views=3)
    epoch = epoch_order(pairs, 16, seed=0, epoch=0)
    pictures = epoch.pictures.ravel()
    assert epoch.pictures.shape == (3, 16) and len(set(pictures)) == 48
    np.testing.assert_array_equal(epoch.text_rows.ravel() // CAPTIONS, pictures)
    assert set(epoch.views.ravel()) == {0, 1, 2}


def test_the_order_depends_on_seed_and_epoch_alone():
    pairs = made_pairs()
    first, same = (epoch_order(pairs, 16, 3, 5) for _ in range(2))
    np.testing.assert_array_equal(first.text_rows, same.text_rows)
    for other in (epoch_order(pairs, 16, 3, 6), epoch_order(pairs, 16, 4, 5)):
        assert (first.pictures != other.pictures).any()


def test_a_batch_larger_than_the_split_is_an_error_that_names_the_number():
    with pytest.raises(InputError, match="phase1.batch_size to 64 or less"):
        epoch_order(made_pairs(), 65, 0, 0)


def test_statistics_are_those_of_the_rows_of_the_split(random):
    features = (random.normal(size=(9000, 5)) * [1e-4, 1, 50, 1, 1] + 7).astype(
        "float32"
    )
    rows = np.arange(0, 9000, 2)
    mean, deviation = statistics(features, rows)
    np.testing.assert_allclose(mean, features[rows].mean(0, dtype="float64"), rtol=1e-5)
    np.testing.assert_allclose(
        deviation, features[rows].std(0, dtype="float64"), rtol=1e-3
    )
