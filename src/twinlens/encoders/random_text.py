"""A small BERT from random weights, with the words of a corpus."""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from twinlens.encoders.bert_family import text_network
from twinlens.encoders.text_network import Casing, TextNetwork
from twinlens.errors import InputError
from twinlens.writing import whole_file

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


def random_bert(
    length: int, size: RandomSize, corpus: Iterable[str], kept: Path | None = None
) -> TextNetwork:
    """BERT with random weights.

    Args:
        length: tokens of the longest text.
        size: of the network.
        corpus: texts whose words become the vocabulary.
        kept: see `word_pieces`.

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
    words = word_pieces(corpus, size.vocabulary_size, kept)
    tokenizer = keras_hub.models.BertTokenizer(
        words, lowercase=False, strip_accents=True
    )
    return text_network(backbone, tokenizer, Casing(lowercase=True), True)


def word_pieces(
    corpus: Iterable[str], vocabulary_size: int, kept: Path | None = None
) -> list[str]:
    """A WordPiece vocabulary of the corpus: special tokens, then learned pieces.

    Args:
        corpus: texts, in any order.
        vocabulary_size: pieces at most.
        kept: folder where vocabularies are, and where this one is left: learning one
            takes a second, and minutes on millions of texts. `None` keeps none.

    Raises:
        InputError: the corpus is empty.
    """
    texts = sorted(set(corpus))
    if not texts:
        raise InputError(
            "A text encoder with weights 'none' makes its vocabulary from training "
            "captions, but none were passed. Pass `corpus`, or take weights."
        )
    if kept is None:
        return _learned(texts, vocabulary_size)
    name = _digest([str(vocabulary_size), *SPECIAL_TOKENS, *texts])
    path = kept / f"{name}.txt"
    words = _read(path)
    if not words:
        words = _learned(texts, vocabulary_size)
        _keep(path, words)
    return words


def _learned(texts: list[str], vocabulary_size: int) -> list[str]:
    from keras_hub.tokenizers import compute_word_piece_vocabulary

    # Converting its graph code takes longer than learning, and none of it needs that.
    learn = tf.autograph.experimental.do_not_convert(compute_word_piece_vocabulary)
    return learn(
        tf.data.Dataset.from_tensor_slices(tf.strings.lower(texts, "utf-8")),
        vocabulary_size,
        lowercase=False,
        strip_accents=True,
        reserved_tokens=SPECIAL_TOKENS,
    )[:vocabulary_size]


def _keep(path: Path, words: list[str]) -> None:
    """Leaves words for the next time; of two writers, both write the same."""
    # Where the folder is read-only or full, they are learned again.
    with contextlib.suppress(OSError, InputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_text("\n".join([_digest(words), *words]), "utf-8")


def _read(path: Path) -> list[str]:
    """Words of a file; none where it is not there or not as it was written."""
    try:
        digest, *words = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return words if digest == _digest(words) else []


def _digest(words: list[str]) -> str:
    """32 hex digits of words and their order."""
    return hashlib.blake2b("\0".join(words).encode(), digest_size=16).hexdigest()
