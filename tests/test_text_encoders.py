"""Text encoders: tokens, pooling, layers, folders that fit and folders that do not."""

import functools
import json
from pathlib import Path

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from twinlens.encoders import random_text, text_encoder
from twinlens.encoders.bert_family import strips_accents
from twinlens.encoders.random_text import RandomSize, word_pieces
from twinlens.errors import InputError

CORPUS = ("a red disc", "two blue squares", "a Café on the corner", "green and red")
SHORT, LONG = "a red disc", "two blue squares and a green disc on the red corner"
GOLDEN = Path(__file__).parent / "golden" / "minilm_captions.npz"
MINILM = "models/minilm_l6"


@functools.cache
def encoder(**settings):
    size = RandomSize(vocabulary_size=100, num_layers=2, num_heads=2, hidden_dim=8)
    arguments = {"weights": "none", "sequence_length": 32, "size": size}
    return text_encoder(**arguments | {"corpus": CORPUS} | settings)


def tokens(made, texts):
    return made.tokenize(tf.constant(list(texts))).to_list()


def features(made, texts):
    return made.model(made.inputs_of(tf.constant(list(texts))), training=False).numpy()


# === Tokens ===


def test_the_vocabulary_is_the_words_of_the_corpus_behind_the_special_tokens():
    pieces = word_pieces(CORPUS * 5, 100)
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert set("redcaf") <= set(pieces) and len(pieces) == len(set(pieces)) <= 100
    assert not [piece for piece in pieces[5:] if piece != piece.lower() or "é" in piece]
    assert word_pieces(reversed(CORPUS), 100) == word_pieces(CORPUS, 100)


def test_a_vocabulary_is_kept_and_read_again(tmp_path, monkeypatch):
    kept = tmp_path / "features" / "vocabularies"
    words = word_pieces(CORPUS, 100)
    assert word_pieces(CORPUS, 100, kept) == words
    (file,) = kept.iterdir()
    with monkeypatch.context() as nothing_to_learn_with:
        nothing_to_learn_with.delattr(random_text, "_learned")
        assert word_pieces(reversed(CORPUS), 100, kept) == words
        for other in ((CORPUS, 99), (CORPUS[1:], 100)):
            with pytest.raises(NameError):  # another corpus or size is another file
                word_pieces(*other, kept)
    for damaged in (file.read_bytes()[:-3], b"\xff", b""):
        file.write_bytes(damaged)
        assert word_pieces(CORPUS, 100, kept) == words


def test_a_vocabulary_that_cannot_be_kept_is_learned(tmp_path):
    taken = tmp_path / "a file"
    taken.write_text("x")
    assert word_pieces(CORPUS, 100, taken / "vocabularies") == word_pieces(CORPUS, 100)


def test_tokens_have_start_and_end_and_no_unknown_word_of_the_corpus():
    for row in tokens(encoder(), CORPUS):
        assert row[0] == 2 and row[-1] == 3 and not {0, 1, 2, 3} & set(row[1:-1])


def test_case_and_accents_do_not_matter():
    a, b, c = tokens(encoder(), ["a café", "A CAFE", "a cafe\u0301"])
    assert a == b == c


def test_lowercasing_keeps_characters_that_case_folding_would_spell_out():
    made = encoder(corpus=(*CORPUS, "½ of the Straße … 1⁄2 strasse ..."))
    fraction, spelled = tokens(made, ["½", "1⁄2"])
    assert fraction != spelled and 1 not in fraction
    sharp, double, dots, three = tokens(made, ["STRAßE", "strasse", "…", "..."])
    assert sharp != double and dots != three and 1 not in (*sharp, *dots)


@pytest.mark.parametrize(
    ("said", "lowercase", "expected"),
    [
        (None, True, True),  # Hugging Face: where the text is lowercased
        (None, False, False),
        (False, True, False),
        (True, False, True),
    ],
)
def test_accents_are_stripped_as_the_folder_says(tmp_path, said, lowercase, expected):
    text = json.dumps({"strip_accents": said})
    (tmp_path / "tokenizer_config.json").write_text(text)
    assert strips_accents(str(tmp_path), lowercase) == expected


def test_a_preset_strips_accents_where_it_lowercases():
    assert strips_accents("bert_base_en_uncased", True)
    assert not strips_accents("bert_base_en", False)


def test_long_texts_are_cut_to_the_sequence_length_with_the_end_kept():
    whole, cut = encoder(), encoder(sequence_length=6)
    (row,) = tokens(whole, [LONG])
    assert len(row) > 6 and tokens(cut, [LONG]) == [[*row[:5], 3]]
    assert tokens(cut, ["a"]) == tokens(whole, ["a"])


def test_an_empty_text_is_start_and_end():
    assert tokens(encoder(), [""]) == [[2, 3]]
    assert np.isfinite(features(encoder(), [""])).all()


def test_packed_rows_are_padded_with_a_mask():
    ids = tf.ragged.constant([[2, 7, 3], [2, 3]], dtype=tf.int32)
    found = encoder().pack(ids, length=4)
    np.testing.assert_array_equal(found["token_ids"], [[2, 7, 3, 0], [2, 3, 0, 0]])
    np.testing.assert_array_equal(found["padding_mask"], [[1, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(found["segment_ids"], np.zeros((2, 4)))


# === Features ===


def test_random_weights_come_from_the_seed_whatever_the_order_of_the_corpus():
    again = encoder(corpus=tuple(reversed(CORPUS)))
    np.testing.assert_array_equal(features(encoder(), CORPUS), features(again, CORPUS))
    assert again.description == encoder().description
    other = encoder(seed=1)
    assert (features(other, CORPUS) != features(again, CORPUS)).any()
    assert other.description["weights"] != again.description["weights"]


def test_another_vocabulary_is_another_description():
    other = encoder(corpus=("something else entirely",))
    assert other.description["vocabulary"] != encoder().description["vocabulary"]


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_padding_changes_nothing(pooling):
    made = encoder(pooling=pooling)
    (alone,), (batched, _) = features(made, [SHORT]), features(made, [SHORT, LONG])
    np.testing.assert_allclose(alone, batched, atol=1e-6)


def test_mean_is_over_all_tokens_and_cls_is_the_first():
    inputs = encoder().inputs_of(tf.constant([SHORT]))
    backbone = encoder().model
    inner = backbone.get_layer("transformer_layer_1").output
    sequence = type(backbone)(backbone.input, inner)(inputs).numpy()[0]
    np.testing.assert_allclose(
        features(encoder(), [SHORT])[0], sequence.mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
        features(encoder(pooling="cls"), [SHORT])[0], sequence[0], atol=1e-6
    )


def test_the_pooler_is_bounded_and_something_else():
    pooled = features(encoder(pooling="pooler"), CORPUS)
    assert np.abs(pooled).max() < 1  # a hyperbolic tangent
    assert np.abs(pooled - features(encoder(pooling="cls"), CORPUS)).max() > 0.1


def test_layers_are_counted_from_either_end_and_joined():
    first, last = features(encoder(layer=-2), CORPUS), features(encoder(), CORPUS)
    assert (first != last).any()
    joined = encoder(layer=(0, 1))
    np.testing.assert_array_equal(
        features(joined, CORPUS), np.concatenate([first, last], axis=1)
    )
    assert joined.feature_dim == 16 and joined.description["layer"] == [0, 1]


def test_bfloat16_is_close_to_float32():
    whole, half = (
        features(encoder(), CORPUS),
        features(encoder(dtype="bfloat16"), CORPUS),
    )
    assert half.dtype == np.float32 and (half != whole).any()
    assert np.linalg.norm(half - whole) < 0.02 * np.linalg.norm(whole)


# === What the user can get wrong ===


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "bart"}, "Unknown text encoder 'bart'. Did you mean .*bert"),
        ({"layer": 2}, "layer is 2, but this network has the layers 0 to 1.*-2 to -1"),
        ({"pooling": "pooler", "layer": 0}, "'pooler' reads the last layer only"),
        ({"corpus": ()}, "vocabulary from training captions, but none were passed"),
        ({"weights": "no/such"}, "'no/such', but there is no such folder"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(settings, message):
    with pytest.raises(InputError, match=message):
        encoder(**settings)


def test_an_incomplete_folder_names_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "vocab.txt").write_text("[PAD]")
    with pytest.raises(
        InputError, match="lacks model.safetensors, tokenizer_config.json"
    ):
        text_encoder(weights=str(tmp_path))


def made_up_folder(folder, model_type, weights=b""):
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    (folder / "model.safetensors").write_bytes(weights)
    return str(folder)


def test_a_folder_of_another_kind_of_network_is_refused(tmp_path):
    folder = made_up_folder(tmp_path, "roberta")
    with pytest.raises(InputError, match="model_type 'roberta', but .* reads 'bert'"):
        text_encoder(weights=folder)


def test_a_folder_that_cannot_be_read_says_why(tmp_path):
    folder = made_up_folder(tmp_path, "bert", b"no weights at all")
    with pytest.raises(InputError, match="config.json does not say 'vocab_size'"):
        text_encoder(weights=folder)


def test_a_preset_that_cannot_be_downloaded_says_what_to_do(monkeypatch):
    def no_network(*_, **__):
        raise OSError("the network\nis off")

    monkeypatch.setattr(keras_hub.models.BertBackbone, "from_preset", no_network)
    with pytest.raises(InputError) as error:
        text_encoder(weights="bert_base_en_uncased")
    text = str(error.value)
    assert "is 'bert_base_en_uncased'. It is neither a local folder nor a pre" in text
    assert "the network is off" in text and "local Hugging Face folder" in text
    assert "text_encoder.weights=none" in text


# === The real weights ===


@pytest.fixture(scope="module")
def minilm(shared):
    return text_encoder(weights=str(shared / MINILM))


@pytest.mark.real
def test_minilm_agrees_with_sentence_transformers(minilm):
    """Values of sentence-transformers 6.2.0, mean-pooled in float32, normalised."""
    with np.load(GOLDEN, allow_pickle=False) as golden:
        captions, expected = golden["captions"].tolist(), golden["embeddings"]
    found = features(minilm, captions)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.real
def test_paraphrases_are_closer_than_other_sentences(minilm):
    found = features(
        minilm, ["a dog runs on grass", "a puppy races over a lawn", "stocks fell"]
    )
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert found[0] @ found[1] > 0.5 > 0.2 > found[0] @ found[2]
