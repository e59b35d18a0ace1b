"""Texts to cached features: each distinct text once, in batches of like length."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from twinlens.encoders.base import TextEncoder
from twinlens.features.store import Encode, Encoded, Features, Job, Piece, complete

TOKENIZE_AT_ONCE = 8192  # texts; bounds the memory of the token ids
BLOCK_BATCHES = 32  # batches between two entries of the journal: some ten seconds


def encode_texts(
    encoder: TextEncoder,
    texts: Iterable[str],
    cache: str | Path = "data/features",
    dtype: str = "float32",
    batch_size: int = 128,
    encode: Encode | None = None,
) -> Features:
    """Features of the distinct texts, from the cache or encoded now.

    Args:
        encoder: a frozen text encoder.
        texts: any order, repeats welcome.
        cache: folder of all caches.
        dtype: of the stored features, `"float32"` or `"float16"`.
        batch_size: texts a forward pass.
        encode: does the work of `TextBlocks` elsewhere; by default it is done here.

    Returns:
        `Features` whose ids are the texts. Of an encoder with pooling `"tokens"` a
        text is `(length of the longest, dim)`, zeros behind its end.

    Raises:
        ValueError: the encoder has trainable weights.
        InputError: the cache cannot be written.
    """
    refuse_trainable(encoder.model)
    distinct = sorted(set(texts))
    tokens = _token_ids(encoder, distinct)
    lengths = tokens.row_lengths().numpy()
    order = np.argsort(lengths, kind="stable")  # like lengths: little padding
    tokens = tf.gather(tokens, order)

    def piece(first: int, last: int) -> Piece:
        some = tokens[first:last]
        return {"tokens": some.values.numpy(), "lengths": some.row_lengths().numpy()}

    encode = encode or partial(map, TextBlocks(encoder, batch_size))
    longest, dim = int(lengths.max(initial=0)), encoder.feature_dim
    if encoder.gives_tokens:
        encode = partial(_all_padded, encode, longest)
    ids = np.array(distinct, dtype=object)[order]
    job = Job(
        key={"kind": "text", **encoder.description, "batch_size": batch_size},
        ids=ids,
        contents=np.full(len(ids), ""),  # the id is the content
        shape=(longest, dim) if encoder.gives_tokens else (dim,),
        dtype=dtype,
        block_size=BLOCK_BATCHES * batch_size,
        piece=piece,
        encode=encode,
        what="encoding captions",
        unit="captions",
    )
    return complete(Path(cache), job)


class TextBlocks:
    """Encodes texts, a block of them a call.

    Args:
        encoder, batch_size: as for `encode_texts`.

    Call arguments:
        piece: `tokens` of all texts one behind another, and the texts' `lengths`.

    Returns:
        Features; those of tokens as long as the longest text of the block. No text is
        broken.
    """

    def __init__(self, encoder: TextEncoder, batch_size: int = 128) -> None:
        self._batch_size, self._forward = batch_size, _forward(encoder)

    def __call__(self, piece: Piece) -> Encoded:
        """Encodes a block; see the class."""
        tokens = tf.RaggedTensor.from_row_lengths(piece["tokens"], piece["lengths"])
        starts = range(0, len(piece["lengths"]), self._batch_size)
        batches = (tokens[start : start + self._batch_size] for start in starts)
        features = [
            self._forward(b.to_tensor(), tf.cast(b.row_lengths(), tf.int32)).numpy()
            for b in batches
        ]
        longest = max(each.shape[1] for each in features)
        if features[0].ndim == 3:
            features = [_padded(each, longest) for each in features]
        return np.concatenate(features), {}


def _all_padded(
    encode: Encode, length: int, pieces: Iterable[Piece]
) -> Iterable[Encoded]:
    for features, broken in encode(pieces):
        yield _padded(features, length), broken


def _padded(tokens: np.ndarray, length: int) -> np.ndarray:
    """`(n, some, dim)` to `(n, length, dim)`, zeros behind."""
    return np.pad(tokens, ((0, 0), (0, length - tokens.shape[1]), (0, 0)))


def refuse_trainable(model) -> None:
    """Raises `ValueError` if a model that is to be cached could still change."""
    if model.trainable_weights:
        raise ValueError(
            f"Only a frozen encoder can be cached, but `{model.name}` has "
            f"{len(model.trainable_weights)} trainable weights. "
            "Set `encoder.model.trainable = False` first."
        )


def _token_ids(encoder: TextEncoder, texts: list[str]) -> tf.RaggedTensor:
    starts = range(0, len(texts), TOKENIZE_AT_ONCE)
    parts = [
        encoder.tokenize(tf.constant(texts[s : s + TOKENIZE_AT_ONCE])) for s in starts
    ]
    return tf.concat(parts, axis=0)


def _forward(encoder: TextEncoder) -> Callable:
    """The compiled inference; its weights stay variables (see `frozen`)."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def forward(tokens, lengths):
        inputs = encoder.pack(tf.RaggedTensor.from_tensor(tokens, lengths))
        return encoder.model(inputs, training=False)

    return forward
