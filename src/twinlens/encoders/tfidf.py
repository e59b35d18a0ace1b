"""TF-IDF of the training captions' words, reduced by an SVD: no order, no network."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from twinlens.encoders.random_text import RandomSize
from twinlens.encoders.text_network import Casing, TextNetwork, tokens_digest
from twinlens.errors import InputError

NO_WORD = r"[^\p{L}\p{N}_]+"  # what Python's \W+ matches, in RE2's words
LEAST_IDF = 1.0  # scikit-learn's, of a word that every text has
RULES = "lowercase, two characters or more"


def tfidf_network(size: RandomSize, corpus: Iterable[str], seed: int) -> TextNetwork:
    """Texts to `svd.transform(vectorizer.transform(texts))` of scikit-learn.

    Of a text the words that the corpus has count, each as often as it stands there;
    a text without any is the zero vector. In phase 2 the projection learns, starting
    from the SVD, and the words' weights stay.

    Args:
        size: at most `vocabulary_size` words, the commonest, and `hidden_dim`
            features, but one less than there are words.
        corpus: training captions, in any order; repeated ones count again.
        seed: of the randomised SVD.

    Raises:
        InputError: scikit-learn is not installed; the corpus has fewer than two
            words.

    Reference:
        Salton and Buckley 1988, https://doi.org/10.1016/0306-4573(88)90021-0; Halko
        et al. 2011, https://arxiv.org/abs/0909.4061.
    """
    words, idf, components = fit(size, corpus, seed)
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    weigh = WordWeights(len(words), name="word_weights")
    project = layers.Embedding(len(words) + 1, len(components), name="projection")
    feature = layers.Dot(axes=1)([weigh(token_ids), project(token_ids)])
    weigh.set_weights([np.append(0, idf)])
    project.set_weights([np.pad(components.T, ((1, 0), (0, 0)))])
    return TextNetwork(
        inputs={"token_ids": token_ids},
        states=[],
        tokenizer=WordIds(words),
        start=(),
        end=(),
        pad_id=0,
        vocabulary=tokens_digest([RULES, *words]),
        longest=0,
        casing=Casing(lowercase=True),
        own=feature,
        block_end="projection",
    )


def fit(
    size: RandomSize, corpus: Iterable[str], seed: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What scikit-learn learns of a corpus.

    Returns:
        The words; `(words,)` their weights (inverse document frequencies); and
        `(features, words)` the SVD's components.

    Raises:
        InputError: as `tfidf_network`.
    """
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise InputError(
            "text_encoder.name is 'tfidf', which needs scikit-learn, and that is not "
            'installed. Install it: pip install "twinlens[tfidf]".'
        ) from None
    vectorizer = TfidfVectorizer(max_features=size.vocabulary_size)
    try:
        counts = vectorizer.fit_transform(sorted(corpus))
    except ValueError:  # of no word at all
        counts = np.empty((0, 0))
    num_words = counts.shape[1]
    if num_words < 2:
        raise InputError(
            "The text encoder 'tfidf' is fitted on training captions, but those that "
            f"were passed have {num_words} distinct words of two characters or more; "
            "two are needed. Pass `corpus`, or take another text encoder."
        )
    svd = TruncatedSVD(min(size.hidden_dim, num_words - 1), random_state=seed)
    with np.errstate(invalid="ignore"):  # equal texts: no variance to explain
        svd.fit(counts)
    return list(vectorizer.get_feature_names_out()), vectorizer.idf_, svd.components_


class WordIds(tf.Module):
    """Lowercased strings to ragged ids of known words, from 1. Graph code.

    Words are those of scikit-learn's default pattern: runs of letters, digits and
    underscores. Its least length of two needs no rule here, as shorter ones are
    unknown.

    Args:
        words: in the order of their ids.
    """

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        ids = tf.range(1, len(words) + 1)
        values = tf.lookup.KeyValueTensorInitializer(tf.constant(words), ids)
        self.table = tf.lookup.StaticHashTable(values, default_value=0)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """`(n,)` strings to ragged `(n, None)` int32; unknown words are left out."""
        words = tf.strings.split(tf.strings.regex_replace(texts, NO_WORD, " "))
        ids = self.table.lookup(words)
        return tf.ragged.boolean_mask(ids, ids > 0)


@keras.saving.register_keras_serializable(package="twinlens")
class WordWeights(layers.Layer):
    """What each token adds to its text's vector of TF-IDF, whose length is 1.

    A word that stands `c` times in a text has there `c * idf / norm`, in `c` tokens
    of `idf / norm` each; and the squares of `c * idf`, summed over words, are
    `c * idf**2`, summed over tokens. So no row as wide as the vocabulary is needed.

    Args:
        num_words: known words; their ids begin at 1.

    Call arguments:
        token_ids: `(n, length)` int32, 0 for padding.

    Returns:
        `(n, length)` float32, 0 for padding.
    """

    def __init__(self, num_words: int, **kwargs) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.num_words = num_words

    def build(self, input_shape: tuple) -> None:
        """Creates the words' inverse document frequencies, which never learn."""
        shape = (self.num_words + 1,)
        self.idf = self.add_weight(shape=shape, name="idf", trainable=False)

    def call(self, token_ids):
        """`(n, length)` ids to `(n, length)` weights."""
        idf = ops.take(self.idf, token_ids)
        same = ops.equal(token_ids[:, :, None], token_ids[:, None, :])
        counts = ops.sum(ops.cast(same, "float32"), axis=2)
        squared_norm = ops.sum(counts * idf**2, axis=1, keepdims=True)
        return idf / ops.sqrt(ops.maximum(squared_norm, LEAST_IDF**2))  # of no word: 0

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | {"num_words": self.num_words}
