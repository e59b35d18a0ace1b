"""Features of places: means over a grid of cells, whatever the map's size."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_pairs import folder, golden, pixels
from tiny import draw_data

from twinlens.config import Config, ImageEncoderSettings, PairSettings, override
from twinlens.encoders import image_encoder
from twinlens.encoders.places import GridPooling, places_of
from twinlens.errors import InputError
from twinlens.features import encode_images

SIZE = 32  # pixels: the maps behind these layers have 8 and 4 places a side
TWO, FOUR = "conv_pw_2_relu", "conv_pw_4_relu"
encoder = functools.cache(
    functools.partial(
        image_encoder, "mobilenet", "none", pooling="tokens", image_size=SIZE
    )
)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (2, SIZE, SIZE, 3)).astype("float32")


def features(made, seen):
    return made.model(seen, training=False).numpy()


def slow(grid, size):
    """Cell by cell, with PyTorch's formula."""

    def covered(cell, length):
        ends = cell * length / size, (cell + 1) * length / size
        return slice(int(np.floor(ends[0])), int(np.ceil(ends[1])))

    _, height, width, _ = grid.shape
    cells = [
        grid[:, covered(row, height), covered(column, width)].mean((1, 2))
        for row in range(size)
        for column in range(size)
    ]
    return np.stack(cells, axis=1)


def as_map(tokens):
    """A square of tokens as rows and columns."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens.reshape(len(tokens), side, side, -1)


# === Means over cells ===


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        # both cells of a side cover the middle: the mean of 0, 1, 3, 4 comes first
        ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], 2, [2, 3, 5, 6]),
        ([[0, 1, 2, 3], [4, 5, 6, 7]], 2, [0.5, 2.5, 4.5, 6.5]),
        ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], 3, range(9)),
        ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], 1, [4]),
    ],
)
def test_cells_by_hand(rows, size, expected):
    grid = np.array(rows, "float32")[None, :, :, None]
    np.testing.assert_allclose(GridPooling(size)(grid)[0, :, 0], list(expected))


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_cells_are_those_of_a_slow_loop(size):
    grid = np.random.default_rng(0).normal(size=(2, 7, 11, 5)).astype("float32")
    np.testing.assert_allclose(GridPooling(size)(grid), slow(grid, size), atol=1e-6)


def test_tokens_in_front_are_no_places():
    tokens = np.random.default_rng(0).normal(size=(2, 2 + 16, 5)).astype("float32")
    expected = slow(as_map(tokens[:, 2:]), 3)
    pool = GridPooling(3, 2)
    np.testing.assert_allclose(pool(tokens), expected, atol=1e-6)
    anew = GridPooling.from_config(pool.get_config())
    np.testing.assert_array_equal(anew(tokens), pool(tokens))


def test_a_place_learns_as_much_as_it_counts():
    grid = tf.ones((1, 3, 3, 1))
    with tf.GradientTape() as tape:
        tape.watch(grid)
        total = tf.reduce_sum(GridPooling(2)(grid))
    # a quarter of each cell that covers it: one at a corner, two at a side, all four
    expected = [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    np.testing.assert_allclose(tape.gradient(total, grid)[0, :, :, 0], expected)


def test_means_are_in_float32_whatever_the_network_computes_in():
    grid = np.full((1, 32, 32, 1), 1.0, "float32")
    grid[0, 0, 0, 0] = 1 + 2**-3  # lost in the mean of a bfloat16
    found = GridPooling(1)(keras.ops.cast(grid, "bfloat16"))
    assert float(found[0, 0, 0]) == 1 + 2**-13


@pytest.mark.parametrize(
    ("shape", "prefix_tokens", "expected"),
    [
        ((None, 5, 7, 3), 0, (5, 7)),
        ((None, 1 + 9, 3), 1, (3, 3)),
        ((None, 10, 3), 0, None),
        ((None, 1, 3), 1, None),
        ((None, None, 7, 3), 0, None),
        ((None, None, 3), 0, None),
        ((None, 3), 0, None),
    ],
)
def test_places_are_a_map_or_a_square(shape, prefix_tokens, expected):
    assert places_of(shape, prefix_tokens) == expected


# === In an encoder ===


def test_an_encoder_gives_the_means_of_its_map(pictures):
    every, few = encoder(layer=TWO), encoder(layer=TWO, grid=3)
    assert (every.places, few.places) == ((8, 8), (3, 3))
    assert few.feature_shape == (9, every.feature_dim)
    expected = slow(as_map(features(every, pictures)), 3)
    assert expected.std() > 0
    np.testing.assert_allclose(features(few, pictures), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["vit", "dinov2_registers", "siglip"])
def test_a_transformer_gives_the_means_of_its_patches(name):
    kind, _, registers = name.partition("_")
    settings = {"pooling": "tokens", "image_size": 24}
    made = image_encoder(kind, folder(name), grid=2, **settings)
    states = golden(name)["image_last" if name == "siglip" else "last_24"]
    expected = slow(as_map(states[:, states.shape[1] - 9 :]), 2)  # patches of 8 pixels
    found = features(made, pixels(24))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert made.places == (2, 2)
    assert image_encoder(kind, folder(name), **settings).places == (3, 3)


def test_layers_of_several_sizes_are_joined_by_a_grid(pictures):
    alone = [features(encoder(layer=tap, grid=2), pictures) for tap in (TWO, FOUR)]
    joined = encoder(layer=(TWO, FOUR), grid=2)
    np.testing.assert_array_equal(features(joined, pictures), np.concatenate(alone, -1))


def test_networks_of_several_sizes_are_joined_by_a_grid(pictures):
    names = (f"mobilenet:{TWO}", "mobilenet_v2:block_1_expand")
    settings = {"weights": "none", "pooling": "tokens", "image_size": SIZE}
    joined = image_encoder(names, grid=3, **settings)
    first = encoder(layer=TWO, grid=3)
    found = features(joined, pictures)[..., : first.feature_dim]
    np.testing.assert_array_equal(found, features(first, pictures))
    assert joined.feature_shape == (9, first.feature_dim + 96)
    assert joined.places == (3, 3)


def test_one_vector_has_no_places():
    made = image_encoder("mobilenet", "none", TWO, image_size=SIZE)
    assert made.places is None


def test_a_saved_encoder_gives_the_same(tmp_path, pictures):
    made = encoder(layer=(TWO, FOUR), grid=3)
    made.model.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(loaded(pictures), features(made, pictures))


def test_cached_places_are_those_of_the_model(tmp_path):
    data = draw_data(tmp_path, pictures=3)
    files = sorted(map(str, data.parent.glob("*.png")))
    made = encoder(layer=TWO, grid=3)
    found = encode_images(made, dict(zip("abc", files, strict=True)), tmp_path / "all")
    expected = features(made, np.stack([made.load(file) for file in files]))
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
    encode_images(encoder(layer=TWO), {"a": files[0]}, tmp_path / "all")
    caches = [each for each in (tmp_path / "all").iterdir() if each.is_dir()]
    assert len(caches) == 2


def test_a_grid_is_named_only_where_it_is_set():
    every, few = encoder(layer=TWO), encoder(layer=TWO, grid=3)
    assert few.description == every.description | {"grid": 3}
    assert set(every.description) == {
        *("encoder", "layer", "pooling", "image_size", "resize", "dtype", "weights")
    }


def test_the_setting_reaches_the_encoder():
    said = [
        *("name=mobilenet", "weights=none", f"layer={TWO}", "pooling=tokens"),
        *(f"image_size={SIZE}", "grid=3"),
    ]
    settings = override(Config(), [f"image_encoder.{each}" for each in said])
    made = image_encoder(**settings.image_encoder.model_dump())
    assert made.places == (3, 3) and ImageEncoderSettings().grid == 0
    assert isinstance(settings.pair, PairSettings)
    with pytest.raises(InputError, match="image_encoder.grid"):
        override(Config(), ["image_encoder.grid=-1"])


# === What the user can get wrong ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"layer": TWO, "grid": 9},
            "grid is 9, but the map has 8x8 places. Take 1 to 8, 0 for",
        ),
        ({"layer": TWO, "grid": -1}, "grid is -1, but the map has 8x8 .* 1 to 8"),
        (
            {"layer": (TWO, FOUR), "grid": 5},  # the second map is the smaller one
            "grid is 5, but the map has 4x4 places",
        ),
        (
            {"layer": TWO, "grid": 3, "pooling": "avg"},
            "grid is 3, but image_encoder.pooling is 'avg'.*Set pooling to 'tokens'",
        ),
        (
            {"layer": (TWO, FOUR)},
            "the layers have 16, 64 places, which .*Set image_encoder.grid to as many",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(arguments, message):
    settings = {"pooling": "tokens", "image_size": SIZE}
    with pytest.raises(InputError, match=f"^image_encoder.*{message}") as error:
        image_encoder("mobilenet", "none", **settings | arguments)
    assert "received by" not in str(error.value)  # nothing that Keras adds


@pytest.mark.parametrize("shape", [(1 + 12, 4), (None, None, 4), (4,)])
def test_what_is_no_map_has_no_grid(shape):
    message = r"grid is 2, but .*no square of tokens behind 1 in front. Leave the grid"
    with pytest.raises(InputError, match=message):
        GridPooling(2, 1)(keras.Input(shape))
