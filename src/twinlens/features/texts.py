"""Texts to cached features: each distinct text once, in batches of like length."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from twinlens.encoders.base import TextEncoder
from twinlens.features.store import Features, Job, complete

TOKENIZE_AT_ONCE = 8192  # texts; bounds the memory of the token ids
BLOCK_BATCHES = 32  # batches between two entries of the journal: some ten seconds


def encode_texts(
    encoder: TextEncoder,
    texts: Iterable[str],
    cache: str | Path = "data/features",
    dtype: str = "float32",
    batch_size: int = 128,
) -> Features:
    """Features of the distinct texts, from the cache or encoded now.

    Args:
        encoder: a frozen text encoder.
        texts: any order, repeats welcome.
        cache: folder of all caches.
        dtype: of the stored features, `"float32"` or `"float16"`.
        batch_size: texts a forward pass.

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
    forward = _forward(encoder)

    def encode(first: int, last: int) -> tuple[np.ndarray, dict[int, str]]:
        starts = range(first, last, batch_size)
        batches = (tokens[start : min(start + batch_size, last)] for start in starts)
        features = [
            forward(batch.to_tensor(), tf.cast(batch.row_lengths(), tf.int32)).numpy()
            for batch in batches
        ]
        if encoder.gives_tokens:
            features = [_padded(each, longest) for each in features]
        return np.concatenate(features), {}

    longest, dim = int(lengths.max(initial=0)), encoder.feature_dim
    ids = np.array(distinct, dtype=object)[order]
    job = Job(
        key={"kind": "text", **encoder.description, "batch_size": batch_size},
        ids=ids,
        contents=np.full(len(ids), ""),  # the id is the content
        shape=(longest, dim) if encoder.gives_tokens else (dim,),
        dtype=dtype,
        block_size=BLOCK_BATCHES * batch_size,
        encode=encode,
        what="encoding captions",
        unit="captions",
    )
    return complete(Path(cache), job)


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
