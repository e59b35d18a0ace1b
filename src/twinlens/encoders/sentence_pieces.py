"""Sentence pieces that stay."""

import functools

from tensorflow_text.python.ops import sentencepiece_tokenizer as source


class _Shared(source._SentencepieceModelResource):
    """The vocabulary in TensorFlow's memory, under a name of its own.

    TensorFlow Text's own belongs to the operation that made it, which goes with every
    other one whenever a seed is set: tokenizers that were traced before then fail.
    """

    def _create_resource(self):
        return source.gen_sentencepiece_tokenizer.sentencepiece_op(
            model=self._model, shared_name=self._name
        )


@functools.cache
def sentence_pieces(tokenizer_class: type, proto: bytes):
    """A tokenizer of KerasHub from a serialised vocabulary.

    Args:
        tokenizer_class: one of KerasHub's on sentence pieces.
        proto: the vocabulary's file.
    """
    tokenizer = tokenizer_class(proto=proto)
    name = f"{tokenizer_class.__name__}_{id(tokenizer)}"
    tokenizer._sentence_piece._model_resource = _Shared(proto, name)
    return tokenizer
