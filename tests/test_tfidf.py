"""TF-IDF of training captions against scikit-learn's own values."""

import functools
import sys
import time
import unicodedata

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from twinlens.config import load_config
from twinlens.encoders import ImageEncoder, text_encoder
from twinlens.encoders.base import blocks, weights_digest
from twinlens.encoders.random_text import RandomSize
from twinlens.encoders.tfidf import WordWeights
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.features import encode_texts
from twinlens.training import HeadTraining
from twinlens.training.finetuning import FineTuning

CORPUS = (
    "A red disc, and a red square on the left",
    "the dog's toy isn't there; 23 dogs don't play",
    "Ein Café an der Straße, große ÄPFEL",
    "Собака бежит по траве",
    "ΟΔΟΣ και ΣΚΥΛΟΣ",
    "犬が走る snake_case x2 ½ Ⅷ",
    "the red dog on the grass",
    "the red dog on the grass",  # counts twice
)
TEXTS = (
    *CORPUS,
    "",
    "nothing known whatever",  # no word of the corpus
    "a ! 7",  # too short to be words
    "red red RED dog unseen red",
    "straße STRASSE café cafe CAFE\u0301 äpfel Собака",
    "the\tdog\u00a0on\u2003the\ngrass... dog's/toy-x2 snake_case",
    "οδος ΣΚΥΛΟΣ 犬が走る 犬 ⅷ ½½",
    "  the 23 dogs  ",
)
QUICK = (  # one epoch of each phase, without what takes long to compile
    *("phase1.epochs=1", "phase1.checkpoint=last", "head.depth=0", "head.dropout=0"),
    *("phase2.epochs=1", "phase2.checkpoint=last", "phase2.batch_size=4"),
    *("phase2.crop=1", "phase2.flip=false", "phase2.colour=0"),
)
SIZE = RandomSize(vocabulary_size=100, hidden_dim=6)


@functools.cache
def encoder(**settings):
    return text_encoder("tfidf", **{"size": SIZE, "corpus": CORPUS} | settings)


def features(made, texts):
    return made.model(made.inputs_of(tf.constant(list(texts))), training=False).numpy()


def of_scikit_learn(texts, corpus=CORPUS, size=SIZE, seed=0):
    vectorizer = TfidfVectorizer(max_features=size.vocabulary_size)
    matrix = vectorizer.fit_transform(sorted(corpus))
    dim = min(size.hidden_dim, matrix.shape[1] - 1)
    svd = TruncatedSVD(dim, random_state=seed).fit(matrix)
    return svd.transform(vectorizer.transform(texts))


# === The values of scikit-learn ===


@pytest.mark.parametrize(
    ("words", "dim"),
    [(100, 6), (12, 6), (5, 4)],  # all words, the commonest, fewer than dimensions
)
def test_features_are_those_of_scikit_learn(words, dim):
    size = RandomSize(vocabulary_size=words, hidden_dim=6)
    expected = of_scikit_learn(TEXTS, size=size)
    assert expected.shape[1] == dim and np.abs(expected).max() > 0.5
    found = features(encoder(size=size), TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_character_is_a_letter_or_none_as_in_python():
    category = unicodedata.ucd_3_2_0.category  # of what all versions know
    characters = map(chr, range(1, 0x2FA20, 3))
    texts = tuple(f"x{c}y" for c in characters if category(c) not in ("Cs", "Cn"))
    assert len(texts) > 30_000
    made = encoder(corpus=texts, size=RandomSize(len(texts), hidden_dim=2))
    vectorizer = TfidfVectorizer(max_features=len(texts)).fit(texts)
    ids = {word: n + 1 for n, word in enumerate(vectorizer.get_feature_names_out())}
    words = map(vectorizer.build_analyzer(), texts)
    expected = [[ids[word] for word in each] for each in words]
    assert made.tokenize(tf.constant(texts)).to_list() == expected


def test_features_by_hand():
    """Two texts: `aa` in both has idf 1, `bb` in one has ln(3 / 2) + 1."""
    made = encoder(corpus=("aa bb", "aa"), size=RandomSize(hidden_dim=4))
    rare = np.log(3 / 2) + 1
    layer = made.model.get_layer("word_weights")
    found = layer(np.array([[1, 2, 1, 0], [2, 0, 0, 0], [0, 0, 0, 0]]))
    norm = np.hypot(2 * 1, rare)
    expected = [[1 / norm, rare / norm, 1 / norm, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert made.feature_dim == 1  # of two words


def test_a_text_without_a_known_word_is_zero():
    texts = ["", "nothing known whatever", "a ! 7"]
    assert not features(encoder(), texts).any()
    assert not features(encoder(), [*texts, CORPUS[0]])[:3].any()  # with padding


# === Tokens ===


def test_tokens_are_known_words_from_one_without_start_and_end():
    corpus = ("bb aa", "cc aa")  # ids in the order of the alphabet
    found = encoder(corpus=corpus).tokenize(tf.constant(["CC zz, aa-cc a", "zz", ""]))
    assert found.dtype == tf.int32 and found.to_list() == [[3, 1, 3], [], []]


def test_long_texts_are_cut_behind_their_first_known_words():
    cut = encoder(sequence_length=3)
    found = features(cut, ["unseen the red dog on the grass"])
    np.testing.assert_allclose(found, of_scikit_learn(["the red dog"]), atol=1e-5)


# === Seed, description, cache ===


def test_the_order_of_the_corpus_does_not_matter_and_the_seed_does():
    corpus = pd.Series(f"word{n} word{n + 1} word{n % 7}" for n in range(60))
    small = {"size": RandomSize(hidden_dim=3)}
    once = text_encoder("tfidf", corpus=corpus, **small)
    again = text_encoder("tfidf", corpus=corpus[::-1], weights="none", **small)
    assert once.description == again.description
    other = text_encoder("tfidf", corpus=corpus, seed=1, **small)
    assert once.description["weights"] != other.description["weights"]
    assert once.description["vocabulary"] == other.description["vocabulary"]


def test_another_vocabulary_is_another_description():
    other = encoder(corpus=tuple(t.replace("red", "rot") for t in CORPUS))
    assert other.description["vocabulary"] != encoder().description["vocabulary"]


def test_weights_of_words_are_part_of_the_description():
    other = encoder(corpus=(*CORPUS, CORPUS[0]))
    assert other.description["vocabulary"] == encoder().description["vocabulary"]
    assert other.description["weights"] != encoder().description["weights"]


def test_the_cache_holds_the_features_of_all_texts(tmp_path):
    found = encode_texts(encoder(), TEXTS, cache=tmp_path, batch_size=3)
    expected = of_scikit_learn(list(found.ids))
    assert set(found.ids) == set(TEXTS)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)


# === The model ===


def test_the_model_is_saved_with_its_words_weights(tmp_path):
    encoder().model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = encoder().inputs_of(tf.constant(TEXTS))
    np.testing.assert_array_equal(loaded(inputs), encoder().model(inputs))
    assert weights_digest(loaded) == weights_digest(encoder().model)
    layer = loaded.get_layer("word_weights")
    assert isinstance(layer, WordWeights) and layer.num_words > 30


def test_strings_are_exported_with_the_table_of_words(tmp_path):
    made, module = encoder(), tf.Module()
    module.parts = [made.model, made.tokenizer]
    module.serve = tf.function(
        lambda texts: made.model(made.inputs_of(texts)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    found = loaded.serve(tf.constant(TEXTS))
    np.testing.assert_allclose(found, of_scikit_learn(TEXTS), atol=1e-5)


def test_only_the_projection_learns():
    made = text_encoder("tfidf", size=SIZE, corpus=CORPUS)
    assert made.model.trainable_weights == []
    made.model.trainable = True
    (weight,) = made.model.trainable_weights
    assert weight.path == "projection/embeddings"
    inputs = made.inputs_of(tf.constant(TEXTS))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made.model(inputs) ** 2)
    rows = tf.convert_to_tensor(tape.gradient(loss, weight.value)).numpy()
    assert np.isfinite(rows).all() and not rows[0].any() and rows[1:].any(axis=1).all()
    (block,) = blocks(made.model, made.block_end)
    assert block == made.model.layers


def test_bfloat16_is_close_to_float32():
    whole, half = features(encoder(), TEXTS), features(encoder(dtype="bfloat16"), TEXTS)
    assert half.dtype == np.float32 and (half != whole).any()
    assert np.linalg.norm(half - whole) < 0.02 * np.linalg.norm(whole)


def test_a_vocabulary_of_20_000_words_costs_no_row_of_20_000_numbers():
    random = np.random.default_rng(0)
    words = [f"w{n}" for n in range(20_000)]
    corpus = [" ".join(words[n::1000]) for n in range(1000)]
    size = RandomSize(vocabulary_size=20_000, hidden_dim=16)
    made = text_encoder("tfidf", corpus=corpus, size=size)
    texts = [" ".join(random.choice(words, 60)) for _ in range(128)]
    inputs = made.inputs_of(tf.constant(texts))
    assert inputs["token_ids"].shape == (128, 60)
    forward = tf.function(lambda inputs: made.model(inputs), autograph=False)
    graph = forward.get_concrete_function(inputs).graph
    shapes = [out.shape for op in graph.get_operations() for out in op.outputs]
    largest = max(int(np.prod(s)) for s in shapes if s.is_fully_defined() and s.rank)
    assert largest <= 128 * 60 * 60  # pairs of tokens; 128 × 20,000 is five times that
    forward(inputs)
    start = time.monotonic()
    forward(inputs)
    assert time.monotonic() - start < 0.5  # it takes some milliseconds


# === What the user can get wrong ===


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "mean"}, "pooling is 'mean' .* one vector .* Leave pooling at"),
        ({"layer": 0}, "layer is 0, but .* one vector"),
        ({"corpus": ()}, "training captions, but .* have 0 distinct words"),
        ({"corpus": ("a red", "red!")}, "have 1 distinct words"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(settings, message):
    with pytest.raises(InputError, match=message):
        encoder(**settings)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(InputError, match=r'pip install "twinlens\[tfidf\]"'):
        text_encoder("tfidf", corpus=CORPUS)


# === Both phases ===


def small_image_encoder():
    """Colours: what tells the drawn pictures apart."""
    pixels = keras.Input((8, 8, 3))
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels))
    return ImageEncoder(model, 8, "stretch", {"encoder": "colours"}, "")


@pytest.mark.slow
def test_both_phases_train_with_it(home, tmp_path):
    overrides = [*home.settings, *QUICK, "text_encoder.name=tfidf"]
    experiment = Experiment(load_config(None, overrides))
    experiment.__dict__["image_encoder"] = small_image_encoder()
    training = HeadTraining(
        experiment.pairs("train"), None, experiment.config, tmp_path, print
    )
    heads = training.run(lambda history: None)
    text = experiment.text_encoder
    before = [weight.numpy() for weight in text.model.weights]
    tuning = FineTuning(
        experiment.raw_pairs("train"),
        None,
        experiment.image_encoder,
        text,
        heads,
        experiment.config,
    )
    model = tuning.run(lambda history: None)
    assert np.isfinite(tuning.history[-1]["loss"])
    after = {weight.path: weight.numpy() for weight in model.text_model.weights}
    assert list(after) == ["word_weights/idf", "projection/embeddings"]
    same = [np.array_equal(*each) for each in zip(before, after.values(), strict=True)]
    assert same == [True, False]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = text.inputs_of(tf.constant(["a red disc", "", "blue"]))
    np.testing.assert_allclose(
        loaded.encode_text(inputs), model.encode_text(inputs), atol=1e-6
    )


def test_only_training_captions_are_read(home):
    data = pd.read_csv(home.data)
    training = data.loc[data["split"] == "train", "caption"]
    overrides = [*home.settings, "text_encoder.name=tfidf"]
    made = Experiment(load_config(None, overrides)).text_encoder
    size = RandomSize(vocabulary_size=100, hidden_dim=8)
    expected = of_scikit_learn(data["caption"], tuple(training), size)
    np.testing.assert_allclose(features(made, data["caption"]), expected, atol=1e-5)
