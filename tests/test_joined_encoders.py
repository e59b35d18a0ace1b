"""Several picture networks in one encoder, each with its own pixels."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from twinlens.encoders import image_encoder
from twinlens.encoders.applications import _scale_as_trained
from twinlens.encoders.base import blocks
from twinlens.encoders.image import open_network, with_inner
from twinlens.errors import InputError

SIZE = 75  # pixels: the least that InceptionV3 takes
INCEPTION, MOBILE = "inception_v3:mixed0", "mobilenet_v2:block_1_project_BN"
MOBILE_WEIGHTS = "models/mobilenet_v2_1.0_224_notop_dequantised.weights.h5"
encoder = functools.cache(functools.partial(image_encoder, weights="none"))


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (3, SIZE, SIZE, 3)).astype("float32")


def features(made, pixels):
    return made.model(pixels, training=False).numpy()


def test_joined_networks_are_each_alone_side_by_side(pixels):
    joined = encoder((INCEPTION, MOBILE), image_size=SIZE)
    first = encoder(INCEPTION, image_size=SIZE)
    found = features(joined, pixels)
    assert joined.feature_dim == 256 + 24
    np.testing.assert_array_equal(found[:, :256], features(first, pixels))
    assert found[:, 256:].std() > 0
    assert joined.description["layer"] == [["mixed0"], ["block_1_project_BN"]]
    assert joined.description != first.description


def test_a_layer_behind_the_name_is_the_layer(pixels):
    behind = encoder(INCEPTION, image_size=SIZE)
    beside = encoder("inception_v3", layer="mixed0", image_size=SIZE)
    np.testing.assert_array_equal(features(behind, pixels), features(beside, pixels))


def test_without_a_size_each_network_sees_its_own():
    joined = encoder((INCEPTION, MOBILE))
    assert joined.image_size == 299
    (resize,) = (x for x in joined.model.layers if isinstance(x, keras.layers.Resizing))
    assert (resize.height, resize.width) == (224, 224)
    random = np.random.default_rng(1)
    pixels = random.uniform(0, 255, (1, 299, 299, 3)).astype("float32")
    small = tf.image.resize(pixels, (224, 224), antialias=True)
    mobile = joined.model.get_layer("mobilenetv2_1.00_224")
    grid = mobile(small / 127.5 - 1, training=False)
    np.testing.assert_allclose(
        features(joined, pixels)[:, 256:], grid.numpy().mean((1, 2)), atol=1e-4
    )


def test_blocks_of_joined_networks_hold_every_weight_once():
    joined = encoder((INCEPTION, MOBILE), image_size=SIZE)
    found = blocks(joined.model, joined.block_end)
    weights = [id(w) for block in found for layer in block for w in layer.weights]
    assert sorted(weights) == sorted(id(w) for w in joined.model.weights)
    assert len(found) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": (INCEPTION, "vgg61")},
            "'vgg61'. Did you mean vgg19, vgg16.*lists",
        ),
        ({"weights": ("none", "none", "x")}, "has 2 networks, but .*weights has 3"),
        ({"weights": ("none", "imagenet")}, "none, imagenet: random weights beside"),
        ({"layer": "mixed1"}, "Write each layer behind its network"),
        ({"name": INCEPTION, "layer": "mixed1"}, "layer is 'mixed1' beside the name"),
        ({"pooling": "projection"}, "'projection', but inception_v3 has none"),
        ({"pooling": "cls"}, "'cls', but this network has no class token"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(arguments, message):
    settings = {"name": (INCEPTION, MOBILE), "weights": "none", "image_size": SIZE}
    with pytest.raises(InputError, match=message):
        image_encoder(**settings | arguments)


def test_an_auxiliary_head_needs_one_network():
    joined = encoder((INCEPTION, MOBILE), image_size=SIZE)
    with pytest.raises(InputError, match="joins several networks.*needs one"):
        with_inner(joined, "mixed0")


def test_published_efficientnets_divide_by_the_root_of_the_deviation_once_more():
    """As `EfficientNetB0(weights="imagenet")` does: (x - mean) / sqrt(variance * d)."""
    network = open_network("efficientnet_b0", "none", ("stem_conv",), 32).model
    (normalise,) = (
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Normalization)
    )
    mean, variance = np.array([0.485, 0.456, 0.406]), np.array([0.04, 0.05, 0.06])
    normalise.set_weights([mean, variance, np.array(0)])
    normalise.finalize_state()
    _scale_as_trained(network)
    pixels = np.full((1, 2, 2, 3), 0.7, "float32")
    deviation = np.array([0.229, 0.224, 0.225])
    expected = (0.7 - mean) / np.sqrt(variance) / np.sqrt(deviation)
    np.testing.assert_allclose(normalise(pixels)[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.real
def test_mobilenet_tells_pictures_apart_with_its_real_weights(shared):
    made = image_encoder("mobilenet_v2", str(shared / MOBILE_WEIGHTS))
    from twinlens.data import images

    folder = shared / "data" / "flickr8k" / "Images"
    files = sorted(folder.glob("*.jpg"))[:3]
    pixels = np.stack([images.load(str(f), made.image_size, "stretch") for f in files])
    found = features(made, pixels)
    assert made.image_size == 224 and made.feature_dim == 1280
    assert np.isfinite(found).all() and found.std(axis=0).mean() > 0.1


@pytest.mark.real
def test_a_file_of_another_network_is_refused(shared):
    with pytest.raises(InputError, match="does not hold the weights of this network"):
        image_encoder("mobilenet", str(shared / MOBILE_WEIGHTS), image_size=32)
