"""SavedModels and settings that do not fit each other."""

import pytest
import tensorflow as tf
from saved_models import (
    PIXELS,
    SIZE,
    TOKENS,
    save_bert,
    save_picture,
    save_preprocessor,
    save_signature,
)

from twinlens.encoders import image_encoder, text_encoder
from twinlens.errors import InputError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    return {
        "vector": save_picture(home / "vector"),
        "bert": save_bert(home / "bert"),
        "words": save_preprocessor(home / "words"),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "block_1"}, "layer is 'block_1', but .* cannot be tapped"),
        ({"weights": "none"}, "weights is 'none', but .* brings its own weights"),
        ({"pooling": "max"}, "pooling is 'max', but .* one vector a picture"),
        ({"image_size": 16}, f"image_size is 16, but .* takes {SIZE} pixels only"),
    ],
)
def test_a_setting_of_pictures_that_does_not_fit_is_refused(folders, settings, message):
    with pytest.raises(InputError, match=message):
        image_encoder(f"hub:{folders['vector']}", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preprocessor": ""}, "needs the preprocessor .* Set text_encoder.prepro"),
        ({"weights": "none"}, "weights is 'none', but .* brings its own weights"),
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16', but .* computes as it was"),
        ({"sequence_length": 64}, "is 64, but this network has 12 positions"),
        ({"layer": 2}, "layer is 2, but this network has the layers 0 to 1"),
        ({"name": "bert"}, "preprocessor is .*, but 'bert' has its own tokens"),
    ],
)
def test_a_setting_of_texts_that_does_not_fit_is_refused(folders, settings, message):
    usual = {
        "name": f"hub:{folders['bert']}",
        "preprocessor": folders["words"],
        "sequence_length": 8,
    }
    with pytest.raises(InputError, match=message):
        text_encoder(**usual | settings)


def test_pictures_of_another_form_or_none_are_refused(folders, tmp_path):
    flat = save_signature(tmp_path / "flat", tf.abs, tf.TensorSpec([None, 7]))
    with pytest.raises(InputError, match="cannot be called on float32 of the shape"):
        image_encoder(f"hub:{flat}")
    with pytest.raises(InputError, match="cannot be called on float32 of the shape"):
        image_encoder(f"hub:{folders['bert']}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda x: {"default": tf.reduce_mean(x)}, r"gives the shape \(\) for its"),
        (lambda x: {"default": x[:, :, 0]}, r"gives the shape \(None, 8, 3\)"),
        (lambda x: {"a": x, "b": x}, "several outputs: a, b. Take a SavedModel"),
    ],
)
def test_an_output_of_another_form_is_refused(tmp_path, body, message):
    folder = save_signature(tmp_path / "wrong", body, PIXELS)
    with pytest.raises(InputError, match=message):
        image_encoder(f"hub:{folder}")


def test_an_encoder_that_is_no_bert_is_refused(folders, tmp_path):
    specs = [tf.TensorSpec([None, None], tf.int32, name) for name in TOKENS]
    folder = save_signature(
        tmp_path / "pooled",
        lambda *ids: {"pooled_output": tf.cast(ids[0], tf.float32)},
        *specs,
    )
    with pytest.raises(InputError, match="wrong: sequence_output missing"):
        text_encoder(f"hub:{folder}", preprocessor=folders["words"], sequence_length=8)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: {"ids": tf.strings.length(texts)}, "but not input_word_ids"),
        (
            lambda texts: dict.fromkeys(TOKENS, tf.ones_like(texts[:, None], tf.int32)),
            r"makes \[1\] of an empty text and \[1\] of 'a'. Expected are one",
        ),
    ],
)
def test_a_preprocessor_of_another_form_is_refused(
    folders, tmp_path, function, message
):
    wrong = save_preprocessor(tmp_path / "wrong", function)
    with pytest.raises(InputError, match=message):
        text_encoder(f"hub:{folders['bert']}", preprocessor=wrong)


def test_a_preprocessor_without_marks_gives_words_alone(folders, tmp_path):
    def lengths(texts):
        words = tf.strings.split(texts).to_tensor(shape=[None, 12])
        ids = tf.strings.length(words)
        mask = tf.cast(ids > 0, tf.int32)
        return dict(zip(TOKENS, (ids, mask, 0 * mask), strict=True))

    bare = save_preprocessor(tmp_path / "bare", lengths)
    made = text_encoder(f"hub:{folders['bert']}", preprocessor=bare, sequence_length=3)
    found = made.tokenize(tf.constant(["one and three more", "", "a"])).to_list()
    assert found == [[3, 3, 5], [], [1]]
