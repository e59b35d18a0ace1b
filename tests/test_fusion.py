"""Fusions and composed heads: formulas, what a missing side means, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_heads import LENGTH, made_heads, made_images, made_words, scrambled

from twinlens.config import Config, override
from twinlens.errors import InputError
from twinlens.fusion import FUSIONS, make_fusion
from twinlens.target_loss import TargetLoss
from twinlens.training.build import build_composed_heads

KINDS = sorted(FUSIONS)
LENGTHS = (3, 6, 1)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def inputs(random):
    return made_images(random, 3), made_words(random, LENGTHS)


def sides(heads, images, texts):
    return heads.image_head(images).numpy(), heads.text_head(texts).numpy()


# === What each fusion makes of both sides ===


def test_a_sum_by_hand():
    fusion = make_fusion("sum")
    fusion.build((4, 6, 2))
    image, text = np.array([[1.0, 0.0]], "f"), np.array([[0.0, 1.0]], "f")
    np.testing.assert_allclose(fusion(image, text), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)
    fusion.balance.assign(np.log(4))  # weights 4 / 5 and 1 / 5
    expected = np.array([[4, 1]]) / 17**0.5
    np.testing.assert_allclose(fusion(image, text), expected, rtol=1e-6)


def test_one_side_is_that_side(inputs):
    for kind, side in (("image", 0), ("text", 1)):
        heads = scrambled(made_heads(kind))
        expected = sides(heads, *inputs)[side]
        np.testing.assert_array_equal(heads(inputs), expected)


def test_the_combiner_is_that_of_clip4cir(random):
    fusion = make_fusion("combiner", combiner_dim=7, dropout=0.5)
    fusion.build((4, 6, 5))
    scrambled(fusion)
    image, text = (unit(random.normal(size=(3, 5))).astype("f") for _ in range(2))

    def dense(x, name):
        layer = getattr(fusion, name)
        return x @ layer.kernel.numpy() + layer.bias.numpy()

    def relu(x):
        return np.maximum(x, 0)

    joined = np.hstack([relu(dense(image, "of_image")), relu(dense(text, "of_text"))])
    share = 1 / (1 + np.exp(-dense(relu(dense(joined, "gate")), "open")))
    made = dense(relu(dense(joined, "both")), "out")
    expected = unit(made + share * text + (1 - share) * image)
    np.testing.assert_allclose(fusion(image, text), expected, rtol=1e-4, atol=1e-5)


def test_attention_edits_the_places_and_sums_as_the_sum_does(inputs):
    heads = scrambled(made_heads("attention"))
    places = heads.image_head.tokens(inputs[0])
    words, mask = heads.text_head.tokens(inputs[1])
    edited, _ = heads.fusion.edit(places, words, mask)
    image = heads.image_head.read(edited).numpy()
    weight = 1 / (1 + np.exp(-heads.fusion.balance.numpy()))
    text = heads.text_head(inputs[1]).numpy()
    expected = unit(weight * image + (1 - weight) * text)
    np.testing.assert_allclose(heads(inputs), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(edited - places).max() > 0.1


def test_attention_starts_as_the_sum(inputs):
    heads, plain = made_heads("attention"), made_heads("sum")
    np.testing.assert_allclose(heads(inputs), plain(inputs), atol=1e-6)


def test_rows_of_attention_sum_to_one_and_padding_gets_none(inputs):
    over_words, of_places = scrambled(made_heads()).attention(*inputs)
    assert over_words.shape == (3, 4, LENGTH) and of_places.shape == (3, 4)
    np.testing.assert_allclose(over_words.numpy().sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(of_places.numpy().sum(-1), 1, rtol=1e-5)
    for row, length in enumerate(LENGTHS):
        assert not over_words[row, :, length:].numpy().any()


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"attention"}))
def test_a_fusion_without_attention_says_so(kind, inputs):
    with pytest.raises(InputError, match=f"'{kind}' has no attention.*name='attent"):
        made_heads(kind).attention(*inputs)
    assert not made_heads(kind).fusion.has_attention


# === Every fusion ===


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_padding_changes_no_query(kind, inputs):
    heads = scrambled(made_heads(kind))
    longer = np.pad(inputs[1], ((0, 0), (0, 5), (0, 0)))
    np.testing.assert_allclose(heads((inputs[0], longer)), heads(inputs), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_depends_on_no_other_of_the_batch(kind, inputs):
    heads = scrambled(made_heads(kind))
    alone = [heads((inputs[0][i : i + 1], inputs[1][i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(heads(inputs), np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_without_a_text_is_its_picture(kind, inputs):
    heads = scrambled(made_heads(kind))
    found = heads.compose(*inputs, has_text=np.array([True, False, False]))
    np.testing.assert_allclose(found[0], heads(inputs)[0], atol=1e-6)
    expected = heads.encode_target(inputs[0])
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_without_a_picture_does_not_depend_on_what_stands_for_it(
    kind, inputs, random
):
    heads = scrambled(made_heads(kind))
    has_image = np.array([True, False, True])
    other = made_images(random, 3)
    first, second = (
        heads.compose(each, inputs[1], has_image=has_image).numpy()
        for each in (inputs[0], other)
    )
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_allclose(first[[0, 2]], heads(inputs).numpy()[[0, 2]], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_queries_survive_a_file(kind, inputs, tmp_path):
    heads = scrambled(made_heads(kind))
    heads.image_head.standardise.adapt(np.arange(5.0), np.arange(1.0, 6))
    heads.save(tmp_path / "heads.keras")
    loaded = keras.saving.load_model(tmp_path / "heads.keras")
    np.testing.assert_array_equal(loaded(inputs), heads(inputs))
    np.testing.assert_array_equal(
        loaded.encode_target(inputs[0]), heads.encode_target(inputs[0])
    )
    missing = {"has_image": np.zeros(3, bool)}
    np.testing.assert_array_equal(
        loaded.compose(*inputs, **missing), heads.compose(*inputs, **missing)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_built_again_from_their_settings(kind):
    heads = made_heads(kind, drop_image=0.3)
    config = heads.get_config()
    again = type(heads).from_config(heads.get_config())
    assert again.get_config() == config
    assert type(again.fusion) is type(heads.fusion)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("places", "length"), [(None, None), (4, None), (None, 6)])
def test_any_pair_of_encoders_fits_every_fusion(kind, places, length, random):
    """One vector is one place or one word."""
    heads = scrambled(made_heads(kind, places, length))
    images = made_images(random, 3, places or 1)
    texts = made_words(random, LENGTHS if length else (1, 1, 1), length or 1)
    flat = (
        images if places else images[:, 0],
        texts if length else texts[:, 0],
    )
    found = heads(flat)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, heads((images, texts)), atol=1e-6)


WITHOUT_GRADIENT = {  # one side alone leaves the other out; see `OneSide`
    "image": ("text_head", "balance"),
    "text": ("balance", "none"),
    "combiner": (),
    "sum": (),
    "attention": (),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_weight_that_has_a_say(kind, random):
    heads = scrambled(made_heads(kind, drop_image=0.5))
    images, texts = made_images(random, 8), made_words(random, (1, 2, 3, 4) * 2)
    rows = np.arange(8)
    ids = {"pictures": rows, "triplets": np.stack([rows, np.roll(rows, 1)], 1)}
    with tf.GradientTape() as tape:
        loss = heads.training_loss(TargetLoss(0.1), (images, texts), ids)
    weights = heads.trainable_variables
    gradients = tape.gradient(loss, [w.value for w in weights])
    reached = {
        w.path: g is not None and np.abs(tf.convert_to_tensor(g)).max() > 0
        for w, g in zip(weights, gradients, strict=True)
    }
    silent = {path for path, found in reached.items() if not found}
    allowed = WITHOUT_GRADIENT[kind]
    assert silent == {p for p in reached if any(part in p for part in allowed)}


def test_pictures_are_left_out_in_training_only(inputs):
    heads = scrambled(made_heads("sum", drop_image=0.5))
    np.testing.assert_array_equal(heads(inputs), heads(inputs))
    kept = np.concatenate(
        [heads._some_are_left_out(np.zeros(1000, int)).numpy() for _ in range(4)]
    )
    assert 0.45 < kept.mean() < 0.55
    assert made_heads("sum")._some_are_left_out(np.zeros(9)) is None


def test_settings_reach_the_parts():
    settings = [
        *("fusion.name=attention", "fusion.hidden_dim=6", "fusion.place_dim=3"),
        *("fusion.attention_dim=5", "fusion.rounds=3", "fusion.drop_image=0.2"),
        *("head.embedding_dim=7", "head.dropout=0.4", "head.input_dropout=0.1"),
    ]
    config = override(Config(), settings)
    heads = build_composed_heads((4, 5), (6, 3), config, TargetLoss(0.2))
    for head in (heads.image_head, heads.text_head):
        wanted = {"embedding_dim": 7, "hidden_dim": 6, "dropout": 0.4}
        assert head.settings.items() >= (wanted | {"input_dropout": 0.1}).items()
    assert heads.image_head.place_dim == 3
    assert heads.fusion.settings.items() >= {"attention_dim": 5, "rounds": 3}.items()
    assert heads.fusion.settings["dropout"] == 0.4 and heads.drop_image == 0.2
    assert float(heads.similarity.scale()) == pytest.approx(5)
    config = override(config, ["fusion.name=combiner", "fusion.combiner_dim=9"])
    heads = build_composed_heads((4, 5), (6, 3), config, TargetLoss())
    assert heads.fusion.gate.units == 9


def test_the_same_seed_starts_with_the_same_weights_and_another_with_others():
    made = []
    for seed in (0, 0, 1):
        config = override(Config(), [f"seed={seed}", "fusion.name=combiner"])
        heads = build_composed_heads((4, 5), (6, 3), config, TargetLoss())
        made.append({w.path: w.numpy() for w in heads.trainable_variables})
    kernels = [path for path in made[0] if path.endswith("kernel")]
    assert all((made[0][path] == made[1][path]).all() for path in made[0])
    assert all((made[0][path] != made[2][path]).any() for path in kernels)


def test_an_unknown_fusion_is_named():
    with pytest.raises(InputError, match="no fusion 'add'; there are sum, combiner"):
        make_fusion("add")
