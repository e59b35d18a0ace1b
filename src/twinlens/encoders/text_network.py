"""A text network before it is pooled, with the tokenizer that belongs to it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from keras import layers

from twinlens.errors import InputError


@dataclass(frozen=True)
class Casing:
    """What is done to texts before they are cut into tokens.

    Attributes:
        lowercase: by Unicode's plain rule (see `BertFamily`).
        strip_accents: `é` becomes `e`.
    """

    lowercase: bool = False
    strip_accents: bool = False

    def apply(self, texts: tf.Tensor) -> tf.Tensor:
        """`(n,)` strings to strings. Graph code."""
        if self.lowercase:
            texts = tf.strings.lower(texts, "utf-8")
        if self.strip_accents:
            import tensorflow_text

            apart = tensorflow_text.normalize_utf8(texts, "NFKD")
            texts = tf.strings.regex_replace(apart, r"\p{Mn}", "")
        return texts


@dataclass(frozen=True)
class TextNetwork:
    """Token ids to the states of every token.

    Attributes:
        inputs: some of `token_ids`, `padding_mask`, `segment_ids`, symbolic.
        states: what each transformer layer leaves, symbolic `(n, length, dim)`; only
            the last where layers are shared.
        tokenizer: string tensor → ragged token ids without start and end. Graph code.
        start, end: tokens that stand around them; none or one each.
        pad_id: token that stands behind the end.
        vocabulary: digest of tokens and of how texts are cut into them.
        longest: most tokens the network takes; 0 where there is no limit.
        length: tokens it always wants; 0 where any number will do.
        casing: what is done to texts before.
        pooled: what `"pooler"` gives, symbolic `(n, dim)`, where the network has it.
        own: from `states[-1]` and the inputs to the vector that the network was
            trained to give, where it has one.
        block_end: pattern of the layers that end a block.
        program: digest of a SavedModel; empty for networks that Keras builds.
    """

    inputs: dict[str, Any]
    states: list
    tokenizer: Callable
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad_id: int
    vocabulary: str
    longest: int
    length: int = 0
    casing: Casing = Casing()
    pooled: Any = None
    own: Any = None
    block_end: str = r"embeddings_dropout|transformer_layer_\d+"
    program: str = ""

    def check_length(self, sequence_length: int) -> None:
        """Refuses more tokens than there are positions.

        Raises:
            InputError: `sequence_length` is too large.
        """
        if self.longest and sequence_length > self.longest:
            raise InputError(
                f"text_encoder.sequence_length is {sequence_length}, but this network "
                f"has {self.longest} positions. Set it to {self.longest} or less."
            )


def tokenize_function(network: TextNetwork, sequence_length: int) -> Callable:
    """Graph code: strings to ragged token ids with start and end, cut to length."""
    around = len(network.start) + len(network.end)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize(texts):
        pieces = network.tokenizer(network.casing.apply(texts))
        pieces = pieces[:, : sequence_length - around]
        rows = tf.shape(texts)[0]
        start = tf.tile([tf.constant(network.start, tf.int32)], [rows, 1])
        end = tf.tile([tf.constant(network.end, tf.int32)], [rows, 1])
        return tf.concat([start, tf.cast(pieces, tf.int32), end], axis=1)

    return tokenize


def tokens_digest(rules_and_tokens: list[str]) -> str:
    """Names a vocabulary and the rules that texts are cut by: 32 hex digits."""
    text = "\n".join(rules_and_tokens).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def linear(name: str):
    """A layer that changes nothing but makes features float32 under a name."""
    return layers.Activation("linear", dtype="float32", name=name)
