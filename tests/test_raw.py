"""Phase 2's batches: the right pixels, the right texts, the same at every call."""

import numpy as np
import pandas as pd
import pytest
from tiny import draw_data

from twinlens.config import Phase2Settings
from twinlens.data import images
from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.random_text import RandomSize
from twinlens.training.pairs import epoch_order
from twinlens.training.raw import RawBatches, raw_pairs

PLAIN = {"crop": 1.0, "flip": False, "colour": 0.0}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    data = draw_data(tmp_path_factory.mktemp("raw"), pictures=12)
    found = pd.read_csv(data).rename(columns={"image_path": "image_id"})
    found["image_path"] = [str(data.parent / name) for name in found["image_id"]]
    return found


@pytest.fixture(scope="module")
def encoders(table):
    size = RandomSize(100, 1, 1, 8)
    text = text_encoder(weights="none", size=size, corpus=table["caption"])
    return image_encoder("mobilenet", "none", "conv_pw_1_relu", image_size=32), text


def batches(table, encoders, **settings):
    pairs = raw_pairs(table)
    made = RawBatches(pairs, *encoders, Phase2Settings(**settings), seed=0)
    order = epoch_order(pairs, 4, seed=0, epoch=0)
    return pairs, order, lambda *part: list(made(order, 0, *part))


def test_pairs_are_those_of_the_table_without_broken_pictures(table):
    broken = table["image_id"].iloc[0]
    pairs = raw_pairs(table, [broken])
    assert len(pairs) == 11 and broken not in pairs.image_ids
    for place, name in enumerate(pairs.image_ids):
        rows = slice(*pairs.first_caption[place : place + 2])
        wanted = table[table["image_id"] == name]
        assert list(pairs.texts[pairs.text_rows[rows]]) == list(wanted["caption"])
        assert pairs.paths[place] == wanted["image_path"].iloc[0]


def test_without_augmentation_pixels_are_those_of_the_cache(table, encoders):
    pairs, order, made = batches(table, encoders, **PLAIN)
    (batch,) = made(1, 2)
    for row, place in enumerate(order.pictures[1]):
        expected = images.load(pairs.paths[place], 32, "stretch")
        np.testing.assert_array_equal(batch.pixels[row], expected)
    np.testing.assert_array_equal(batch.ids[:, 0], order.pictures[1])
    np.testing.assert_array_equal(batch.ids[:, 1], order.text_rows[1])


def test_tokens_are_those_of_the_captions(table, encoders):
    pairs, order, made = batches(table, encoders, **PLAIN)
    (batch,) = made(0, 1)
    expected = encoders[1].tokenize(pairs.texts[order.text_rows[0]].astype(str))
    np.testing.assert_array_equal(batch.tokens["token_ids"], expected.to_tensor())


def test_a_resumed_epoch_shows_the_same_changed_pictures(table, encoders):
    _, _, made = batches(table, encoders)
    whole, later = made(0, 3), made(1, 3)
    for one, two in zip(whole[1:], later, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
    _, _, plain = batches(table, encoders, **PLAIN)
    assert (plain(0, 1)[0].pixels.numpy() != whole[0].pixels.numpy()).any()


def test_each_change_can_be_had_alone(table, encoders):
    flipped = batches(table, encoders, **PLAIN | {"flip": True})[2](0, 3)
    plain = batches(table, encoders, **PLAIN)[2](0, 3)
    kinds = set()
    for one, two in zip(flipped, plain, strict=True):
        for a, b in zip(one.pixels.numpy(), two.pixels.numpy(), strict=True):
            same = np.allclose(a, b, atol=0.1)
            assert same or np.allclose(a, b[:, ::-1], atol=0.1)
            kinds.add(same)
    assert kinds == {True, False}
