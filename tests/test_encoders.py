"""Picture encoders: taps, pooling, weights that fit and weights that do not."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import draw_data

from twinlens.data import images
from twinlens.encoders import image_encoder
from twinlens.encoders.base import weights_digest
from twinlens.encoders.forward import frozen
from twinlens.encoders.pooling import SpatialPooling
from twinlens.errors import InputError

SIZE = 75  # pixels: the least that InceptionV3 takes
MIXED8 = "models/inception_v3_through_mixed8.weights.h5"
encoder = functools.cache(
    functools.partial(image_encoder, weights="none", image_size=SIZE)
)

build = keras.applications.InceptionV3


@functools.cache
def base():
    return build(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))


@pytest.fixture
def one_base(monkeypatch):
    """For what fails before the network is used: building one takes a second."""

    def built(**arguments):
        return base() if arguments["input_shape"][0] == SIZE else build(**arguments)

    monkeypatch.setattr(keras.applications, "InceptionV3", built)


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (3, SIZE, SIZE, 3)).astype("float32")


def features(made, pixels):
    return made.model(pixels, training=False).numpy()


# === Pooling ===


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("avg", [2.5, -1.0]),
        ("max", [4.0, 0.0]),
        # cubic mean of 1, 2, 3, 4; what is below zero counts as 1e-6
        ("gem", [((1 + 8 + 27 + 64) / 4) ** (1 / 3), 1e-6]),
    ],
)
def test_pooling_by_hand(mode, expected):
    grid = np.array([[[[1, -1], [2, 0]], [[3, -1], [4, -2]]]], "float32")
    found = SpatialPooling(mode)(grid)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_pooling_is_in_float32_whatever_the_network_computes_in():
    grid = np.full((1, 32, 32, 1), 1.0, "float32")
    grid[0, 0, 0, 0] = 1 + 2**-3  # lost in the mean of a bfloat16
    found = SpatialPooling("avg")(keras.ops.cast(grid, "bfloat16"))
    assert float(found[0, 0]) == 1 + 2**-13


# === Random weights, taps ===


@pytest.mark.slow
def test_random_weights_come_from_the_seed(pixels):
    once, other = encoder(layer="mixed0"), encoder(layer="mixed0", seed=1)
    again = encoder.__wrapped__(layer="mixed0")  # built anew
    assert features(once, pixels).std() > 0
    np.testing.assert_array_equal(features(once, pixels), features(again, pixels))
    assert (features(once, pixels) != features(other, pixels)).any()
    assert once.description == again.description
    assert once.description["weights"] != other.description["weights"]


def test_a_corpus_gives_random_weights_its_statistics(tmp_path):
    data = draw_data(tmp_path, pictures=8)
    files = sorted(map(str, data.parent.glob("*.png")))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    plain = encoder(layer="mixed0")
    made = image_encoder(
        weights="none",
        layer="mixed0",
        image_size=SIZE,
        corpus=[*files, str(tmp_path / "broken.png")],
    )
    pixels = np.stack([images.load(file, SIZE, "stretch") for file in files])
    learning = keras.models.clone_model(made.model)
    learning.set_weights(made.model.get_weights())  # a clone trains
    np.testing.assert_allclose(
        features(made, pixels), learning(pixels, training=True), rtol=0.02, atol=1e-3
    )
    assert made.description["weights"] == plain.description["weights"]
    assert made.description != plain.description
    assert made.model.trainable_weights == []


def test_joined_taps_are_each_alone_side_by_side(pixels):
    joined = encoder(layer=("mixed2", "mixed0"))
    alone = [features(encoder(layer=name), pixels) for name in ("mixed2", "mixed0")]
    np.testing.assert_array_equal(
        features(joined, pixels), np.concatenate(alone, axis=1)
    )
    assert joined.feature_dim == 288 + 256
    assert joined.description["layer"] == ["mixed2", "mixed0"]


def test_an_encoder_is_frozen_and_its_features_are_float32():
    made = encoder(layer="mixed0")
    assert made.model.trainable_weights == [] and made.model.weights
    assert made.model.output.dtype == "float32"


def test_a_constant_graph_gives_the_features_of_the_model(pixels):
    made = encoder(layer="mixed0")
    inputs = tf.TensorSpec([None, *pixels.shape[1:]], tf.float32)
    np.testing.assert_allclose(
        frozen(made.model, inputs)(tf.constant(pixels)),
        features(made, pixels),
        rtol=1e-4,
        atol=1e-6 * features(made, pixels).max(),
    )


def test_bfloat16_is_close_to_float32_with_the_same_weights(pixels):
    whole, half = encoder(layer="mixed0"), encoder(layer="mixed0", dtype="bfloat16")
    inputs = tf.TensorSpec([None, *pixels.shape[1:]], tf.float32)
    try:
        graph = frozen(half.model, inputs, half.dtype)
    except InputError as error:
        pytest.skip(str(error))
    a, b = features(whole, pixels), graph(tf.constant(pixels)).numpy()
    assert b.dtype == np.float32 and (a != b).any()
    assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a)
    assert half.description["weights"] == whole.description["weights"]
    assert half.description != whole.description


def test_bfloat16_that_changes_nothing_is_an_error():
    """As on a processor without it: no product of this network can be lowered."""
    network = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(2.0)])
    with pytest.raises(InputError, match="Set image_encoder.dtype=float32"):
        frozen(network, tf.TensorSpec([None, 2], tf.float32), "bfloat16")


def test_the_digest_names_the_weights_and_not_the_object():
    def network():
        made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        made.set_weights([np.eye(2), np.zeros(2)])
        return made

    one, two = network(), network()
    assert weights_digest(one) == weights_digest(two)
    two.set_weights([np.eye(2), np.array([0, 1e-7])])
    assert weights_digest(one) != weights_digest(two)


# === What the user can get wrong ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "inception_v4"},
            "Unknown picture encoder 'inception_v4'. Did you mean inception_v3",
        ),
        (
            {"layer": "mixed99"},
            "image_encoder.layer 'mixed99' is not.*mean mixed9",
        ),
        (
            {"image_size": 74},
            "is 74, which inception_v3 cannot take.*75x75",
        ),
        ({"weights": "x.h5"}, "'x.h5': neither 'imagenet' nor 'none'.*no such file"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(one_base, arguments, message):
    with pytest.raises(InputError, match=message):
        image_encoder(**{"weights": "none", "image_size": SIZE} | arguments)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_weights_of_another_network_are_refused_in_one_sentence(
    one_base, tmp_path, suffix, capfd, recwarn
):
    path = tmp_path / f"other{suffix}"
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(path) if suffix == ".weights.h5" else other.save(path)
    recwarn.clear(), capfd.readouterr()
    with pytest.raises(InputError, match="does not hold the weights of this network"):
        image_encoder(weights=str(path), layer="mixed0", image_size=SIZE)
    assert not recwarn.list and capfd.readouterr() == ("", "")


def test_a_file_that_holds_no_weights_is_refused(one_base, tmp_path):
    path = tmp_path / "page.weights.h5"
    path.write_text("<html>not found</html>")
    with pytest.raises(InputError, match="page.weights.h5 does not hold the weights"):
        image_encoder(weights=str(path), layer="mixed0", image_size=SIZE)


def test_a_damaged_file_of_a_published_name_is_told_by_its_checksum(one_base, tmp_path):
    path = tmp_path / "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.write_bytes(b"half a download")
    message = "its md5 is .* instead of bcbd6486.*Download it again"
    with pytest.raises(InputError, match=message):
        image_encoder(weights=str(path), layer="mixed0", image_size=SIZE)


def test_saved_weights_give_the_same_features(tmp_path, pixels):
    base().save_weights(tmp_path / "whole.weights.h5")
    made = image_encoder(
        weights=str(tmp_path / "whole.weights.h5"), layer="mixed0", image_size=SIZE
    )
    through = keras.Model(base().input, base().get_layer("mixed0").output)
    expected = through(pixels / 127.5 - 1, training=False).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(features(made, pixels), expected, rtol=1e-4, atol=1e-6)


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise OSError("the network is off")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    with pytest.raises(InputError) as error:
        image_encoder(weights="imagenet", layer="mixed0", image_size=SIZE)
    text = str(error.value)
    assert "'imagenet' of InceptionV3 are not on this machine" in text
    assert "the network is off" in text and "inception_v3_weights" in text
    assert "image_encoder.weights=none" in text and "give its path" in text


# === The real weights ===


@pytest.fixture(scope="module")
def joined(shared):
    """InceptionV3's blocks 7 and 8 side by side, and nothing said on the way."""
    path, taps = str(shared / MIXED8), ("mixed7", "mixed8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return image_encoder(weights=path, layer=taps, image_size=SIZE)


@pytest.mark.real
@pytest.mark.parametrize(
    ("layer", "first", "last"),
    [("mixed7", 0, 768), ("mixed8", 768, 2048)],
)
def test_a_file_cut_at_mixed8_fills_every_layer_below(
    shared, joined, pixels, layer, first, last
):
    alone = image_encoder(weights=str(shared / MIXED8), layer=layer, image_size=SIZE)
    found = features(alone, pixels)
    assert alone.feature_dim == last - first
    assert np.isfinite(found).all() and found.std() > 0.01
    np.testing.assert_array_equal(found, features(joined, pixels)[:, first:last])


@pytest.mark.real
def test_a_file_cut_at_mixed8_does_not_reach_the_top(one_base, shared, capfd, recwarn):
    with pytest.raises(InputError, match="Give the file of the same network, or a"):
        image_encoder(weights=str(shared / MIXED8), layer="mixed9", image_size=SIZE)
    assert not recwarn.list and capfd.readouterr() == ("", "")
