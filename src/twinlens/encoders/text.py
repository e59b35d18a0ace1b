"""Text encoders by name: strings in, features out."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

from twinlens.encoders.base import MaskedMean, TextEncoder, building, weights_digest
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


def text_encoder(
    name: str = "bert",
    weights: str = "bert_base_en_uncased",
    pooling: str = "mean",
    layer: int | tuple[int, ...] = -1,
    sequence_length: int = 64,
    dtype: str = "float32",
    seed: int = 0,
    size: RandomSize = RandomSize(),
    corpus: Iterable[str] = (),
) -> TextEncoder:
    """Builds a text encoder.

    Args:
        name: one of `TEXT_ENCODERS`.
        weights: KerasHub preset, local Hugging Face folder, or `"none"` for random
            weights from `seed` in a network of the given `size`.
        pooling: `"pooler"` (the trained layer on the first token), `"cls"` (the
            first token) or `"mean"` (over all tokens).
        layer: transformer layer, or several to join; -1 is the last.
        sequence_length: tokens with start and end; longer texts are cut.
        dtype: of the computation, `"float32"` or `"bfloat16"`; features are float32.
        seed: of random weights.
        size: of the network, with weights `"none"` only.
        corpus: training captions, from which the vocabulary is made; with weights
            `"none"` only.

    Raises:
        InputError: unknown name or layer; weights that cannot be had.
    """
    if name not in TEXT_ENCODERS:
        raise InputError(
            f"Unknown text encoder {name!r}. Known: {', '.join(TEXT_ENCODERS)}."
        )
    with building(dtype, seed):
        parts = TEXT_ENCODERS[name](weights, sequence_length, size, corpus)
        model = _pooled(parts.backbone, pooling, layer, name)
    model.trainable = False
    description = {
        "encoder": name,
        "layer": layer if isinstance(layer, int) else list(layer),
        "pooling": pooling,
        "sequence_length": sequence_length,
        "dtype": dtype,
        "vocabulary": parts.vocabulary_digest,
        "weights": weights_digest(model),
    }
    tokenize = _tokenize(parts, sequence_length)
    return TextEncoder(model, tokenize, description, BLOCK_ENDS[name])


@dataclass(frozen=True)
class _Parts:
    """A KerasHub backbone and the tokenizer that belongs to it.

    KerasHub folds case by Unicode's NFKC_CF, which also turns `½` into `1⁄2` and `ß`
    into `ss`; BERT was trained on lowercased text. So texts are lowercased before.
    """

    backbone: keras.Model
    tokenizer: Callable
    lowercase: bool

    @property
    def vocabulary_digest(self) -> str:
        vocabulary = "\n".join(self.tokenizer.get_vocabulary())
        case = f"lower {self.lowercase} {self.tokenizer.strip_accents}"
        text = f"{case}\n{vocabulary}".encode()
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def _bert(weights: str, length: int, size: RandomSize, corpus: Iterable[str]) -> _Parts:
    import keras_hub

    if weights == "none":
        return _random_bert(length, size, corpus)
    _check_folder(weights, "text_encoder.weights")
    try:
        backbone = keras_hub.models.BertBackbone.from_preset(weights)
        tokenizer = keras_hub.models.BertTokenizer.from_preset(weights)
        lowercase, tokenizer.lowercase = tokenizer.lowercase, False
        tokenizer.strip_accents = _strips_accents(weights, lowercase)
        return _Parts(backbone, tokenizer, lowercase)
    except Exception as error:  # KerasHub and its download library raise many kinds
        reason = " ".join(str(error).split())[:400]
        raise InputError(
            f"text_encoder.weights is {weights!r}. It is "
            + (
                f"a folder that KerasHub cannot read as BERT: {reason}"
                if Path(weights).is_dir()
                else "neither a local folder nor a preset that could be downloaded: "
                f"{reason}. Connect to the network once, or give the path of a local "
                "Hugging Face folder, or ask for random weights with "
                "text_encoder.weights=none."
            )
        ) from None


def _strips_accents(weights: str, lowercase: bool) -> bool:
    """Whether the vocabulary was made without accents; KerasHub never strips them.

    As in Hugging Face: what the folder says, else where the text is lowercased.
    """
    file = Path(weights) / "tokenizer_config.json"
    said = None
    if file.is_file():
        said = json.loads(file.read_text("utf-8")).get("strip_accents")
    return lowercase if said is None else said


def _random_bert(length: int, size: RandomSize, corpus: Iterable[str]) -> _Parts:
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
    return _Parts(backbone, tokenizer, lowercase=True)


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
    return compute_word_piece_vocabulary(
        tf.data.Dataset.from_tensor_slices(tf.strings.lower(texts, "utf-8")),
        vocabulary_size,
        lowercase=False,
        strip_accents=True,
        reserved_tokens=SPECIAL_TOKENS,
    )[:vocabulary_size]


def _check_folder(weights: str, setting: str) -> None:
    """Names the first thing that a local Hugging Face folder lacks."""
    folder = Path(weights)
    if not folder.exists() and ("/" in weights or weights.startswith(".")):
        raise InputError(f"{setting} is {weights!r}, but there is no such folder.")
    if not folder.is_dir():
        return  # a preset's name
    needed = ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    if (folder / "task.json").exists() or (folder / "model.weights.h5").exists():
        return  # KerasHub's own layout
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{setting} is the folder {weights}, which lacks {', '.join(missing)}. "
            f"A local Hugging Face folder needs {', '.join(needed)}."
        )
    model_type = json.loads((folder / "config.json").read_text("utf-8")).get(
        "model_type"
    )
    if model_type != "bert":
        raise InputError(
            f"{setting} is the folder {weights} of model_type {model_type!r}, but the "
            "encoder 'bert' reads 'bert'."
        )


def _pooled(
    backbone: keras.Model, pooling: str, layer: int | tuple[int, ...], name: str
) -> keras.Model:
    taps = (layer,) if isinstance(layer, int) else tuple(layer)
    if pooling == "pooler":
        if taps != (-1,):
            raise InputError(
                f"text_encoder.pooling='pooler' reads the last layer only, but layer "
                f"is {layer}. Take pooling 'cls' or 'mean' for inner layers."
            )
        pooled = [backbone.output["pooled_output"]]
    else:
        mask = backbone.input["padding_mask"]
        tokens = [_layer_output(backbone, tap) for tap in taps]
        if pooling == "cls":
            pooled = [sequence[:, 0, :] for sequence in tokens]
        else:
            pooled = [MaskedMean()(sequence, mask) for sequence in tokens]
    joined = pooled[0] if len(pooled) == 1 else layers.Concatenate()(pooled)
    as_float32 = layers.Activation("linear", dtype="float32", name="feature")(joined)
    return keras.Model(backbone.input, as_float32, name=name)


def _layer_output(backbone: keras.Model, tap: int):
    count = backbone.num_layers
    if not -count <= tap < count:
        raise InputError(
            f"text_encoder.layer is {tap}, but this network has the layers 0 to "
            f"{count - 1}, or counted from the end -{count} to -1."
        )
    return backbone.get_layer(f"transformer_layer_{tap % count}").output


def _tokenize(parts: _Parts, sequence_length: int) -> Callable:
    """Graph code: strings to ragged token ids with start and end, cut to length."""
    tokenizer = parts.tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(texts):
        cased = tf.strings.lower(texts, "utf-8") if parts.lowercase else texts
        pieces = tokenizer(cased)[:, : sequence_length - 2]
        rows = tf.shape(texts)[:1]
        start = tf.fill([rows[0], 1], tokenizer.cls_token_id)
        end = tf.fill([rows[0], 1], tokenizer.sep_token_id)
        return tf.concat([start, tf.cast(pieces, tf.int32), end], axis=1)

    return tokenize


def pack(ids: tf.RaggedTensor, length: int | None = None) -> dict[str, tf.Tensor]:
    """Ragged token ids to a network's input.

    Args:
        ids: ragged `(n, None)` int32.
        length: columns of the result; the longest row's, where not given.

    Returns:
        `token_ids`, `padding_mask` and `segment_ids`, each `(n, length)` int32.
    """
    tokens = ids.to_tensor(shape=(None, length))
    mask = tf.sequence_mask(ids.row_lengths(), tf.shape(tokens)[1], dtype=tf.int32)
    return {
        "token_ids": tokens,
        "padding_mask": mask,
        "segment_ids": tf.zeros_like(tokens),
    }


TEXT_ENCODERS: dict[str, Callable] = {"bert": _bert}
BLOCK_ENDS = {"bert": r"embeddings_dropout|transformer_layer_\d+"}
