"""A small BERT from random weights, with the words of a corpus."""

from collections.abc import Iterable
from dataclasses import dataclass

import tensorflow as tf

from twinlens.encoders.bert_family import text_network
from twinlens.encoders.text_network import Casing, TextNetwork
from twinlens.errors import InputError

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True)
class RandomSize:
    """Size of a network that starts from random weights.

    Dropout's noise is as large as what tells random features apart, hence none.
    """

    vocabulary_size: int = 2000
    num_layers: int = 2
    num_heads: int = 4
    hidden_dim: int = 128
    dropout: float = 0.0


def random_bert(length: int, size: RandomSize, corpus: Iterable[str]) -> TextNetwork:
    """BERT with random weights.

    Args:
        length: tokens of the longest text.
        size: of the network.
        corpus: texts whose words become the vocabulary.

    Raises:
        InputError: the corpus is empty.
    """
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=size.vocabulary_size,
        num_layers=size.num_layers,
        num_heads=size.num_heads,
        hidden_dim=size.hidden_dim,
        intermediate_dim=4 * size.hidden_dim,
        max_sequence_length=length,
        dropout=size.dropout,
    )
    words = word_pieces(corpus, size.vocabulary_size)
    tokenizer = keras_hub.models.BertTokenizer(
        words, lowercase=False, strip_accents=True
    )
    return text_network(backbone, tokenizer, Casing(lowercase=True), True)


def word_pieces(corpus: Iterable[str], vocabulary_size: int) -> list[str]:
    """A WordPiece vocabulary of the corpus: special tokens, then learned pieces.

    Raises:
        InputError: the corpus is empty.
    """
    from keras_hub.tokenizers import compute_word_piece_vocabulary

    texts = sorted(set(corpus))
    if not texts:
        raise InputError(
            "A text encoder with weights 'none' makes its vocabulary from training "
            "captions, but none were passed. Pass `corpus`, or take weights."
        )
    # Converting its graph code takes longer than learning, and none of it needs that.
    learn = tf.autograph.experimental.do_not_convert(compute_word_piece_vocabulary)
    return learn(
        tf.data.Dataset.from_tensor_slices(tf.strings.lower(texts, "utf-8")),
        vocabulary_size,
        lowercase=False,
        strip_accents=True,
        reserved_tokens=SPECIAL_TOKENS,
    )[:vocabulary_size]
