"""Text encoders by name: strings in, features out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from twinlens.encoders.base import TextEncoder, building, weights_digest
from twinlens.encoders.bert_family import BERT_FAMILIES, bert_network
from twinlens.encoders.bert_weights import SETTING
from twinlens.encoders.clip_families import CLIP_FAMILIES
from twinlens.encoders.clip_text import clip_texts
from twinlens.encoders.folders import SentenceModules, sentence_modules
from twinlens.encoders.network import nearest, title_of
from twinlens.encoders.random_text import RandomSize, random_bert
from twinlens.encoders.saved_model import saved_text_network
from twinlens.encoders.text_network import TextNetwork, linear, tokenize_function
from twinlens.encoders.text_pooling import text_feature
from twinlens.encoders.tfidf import tfidf_network
from twinlens.errors import InputError

ARITHMETIC = 2  # raised when the same weights come to give other features
DEFAULT_SIZE = RandomSize()


def text_encoder(
    name: str = "bert",
    weights: str = "bert_base_en_uncased",
    pooling: str = "auto",
    layer: int | tuple[int, ...] = -1,
    sequence_length: int = 64,
    dtype: str = "float32",
    seed: int = 0,
    size: RandomSize = DEFAULT_SIZE,
    corpus: Iterable[str] = (),
    preprocessor: str = "",
    vocabularies: Path | None = None,
) -> TextEncoder:
    """Builds a text encoder.

    Args:
        name: one of `TEXT_ENCODERS`; behind `"hub:"` stands a handle of TF-Hub or a
            folder with a SavedModel.
        weights: KerasHub preset; local folder of Hugging Face or
            sentence-transformers; or `"none"` for random weights from `seed` in a
            BERT of the given `size`. `"tfidf"` has none and ignores this.
        pooling: `"pooler"` (the trained layer on the first token), `"cls"` (the
            first token), `"mean"` or `"max"` (over all tokens), `"tokens"` (each by
            itself, for heads that fuse), `"projection"` (what
            CLIP and SigLIP were trained to give); `"auto"`: what a
            sentence-transformers folder says, or a projection, else the mean.
            `"tfidf"` has this only.
        layer: transformer layer, or several to join; -1 is the last.
        sequence_length: tokens with start and end; longer texts are cut.
        dtype: of the computation, `"float32"` or `"bfloat16"`; features are float32.
        seed: of random weights, and of TF-IDF's projection.
        size: of the network, with weights `"none"` and for `"tfidf"` only.
        corpus: training captions, from which the vocabulary is made; with weights
            `"none"` and for `"tfidf"` only.
        preprocessor: handle or folder of the SavedModel that cuts texts into tokens
            for an encoder behind `"hub:"`.
        vocabularies: folder where those made from a corpus are kept; with weights
            `"none"` only. `None` keeps none.

    Raises:
        InputError: unknown name or layer; weights that cannot be had.
    """
    is_saved = name.partition(":")[0] == "hub"
    if name not in TEXT_ENCODERS and not is_saved:
        raise InputError(
            f"Unknown text encoder {name!r}. {nearest(name, TEXT_ENCODERS)} "
            "`python -m src.encoders` lists all."
        )
    if preprocessor and not is_saved:
        raise InputError(
            f"text_encoder.preprocessor is {preprocessor!r}, but {name!r} has its own "
            "tokens. Leave it empty, or name a SavedModel: hub:HANDLE_OR_PATH."
        )
    unread = is_saved or name == "tfidf"
    modules = None if unread else sentence_modules(weights, SETTING)
    if modules and modules.sequence_length:
        sequence_length = min(sequence_length, modules.sequence_length)
    made_of = _Corpus(sequence_length, size, corpus, seed, vocabularies)
    with building(dtype, seed):
        network = (
            saved_text_network(name, weights, preprocessor)
            if is_saved
            else _open(name, weights, modules, made_of)
        )
        network.check_length(sequence_length)
        mode, feature = text_feature(network, pooling, layer, modules)
        inputs = {each.name: each for each in network.inputs.values()}
        model = keras.Model(inputs, linear("feature")(feature), name=title_of(name))
    model.trainable = False
    description = {
        "encoder": name,
        "layer": layer if isinstance(layer, int) else list(layer),
        "pooling": mode,
        "sequence_length": sequence_length,
        "dtype": dtype,
        "vocabulary": network.vocabulary,
        "weights": weights_digest(model),
        "arithmetic": ARITHMETIC,
        **({"program": network.program} if network.program else {}),
    }
    tokenize = tokenize_function(network, sequence_length)
    return TextEncoder(
        model,
        tokenize,
        description,
        network.block_end,
        network.pad_id,
        network.length,
        weights == "none",
        network.tokenizer,
    )


@dataclass(frozen=True)
class _Corpus:
    """What encoders without published weights are made from."""

    sequence_length: int
    size: RandomSize
    captions: Iterable[str]
    seed: int
    vocabularies: Path | None


def _open(
    name: str, weights: str, modules: SentenceModules | None, corpus: _Corpus
) -> TextNetwork:
    if name == "tfidf":
        return tfidf_network(corpus.size, corpus.captions, corpus.seed)
    if weights == "none":
        if name != "bert":
            raise InputError(
                f"text_encoder.weights is 'none', but random weights are offered for "
                f"'bert' only, not for {name!r}. Give a preset or a folder."
            )
        return random_bert(
            corpus.sequence_length, corpus.size, corpus.captions, corpus.vocabularies
        )
    source = str(modules.transformer) if modules else weights
    network = TEXT_ENCODERS[name](name, source)
    if modules and modules.lowercase:
        network = replace(network, casing=replace(network.casing, lowercase=True))
    return network


TEXT_ENCODERS: dict[str, Callable[..., TextNetwork]] = {
    **dict.fromkeys(BERT_FAMILIES, bert_network),
    "tfidf": tfidf_network,
    **dict.fromkeys(CLIP_FAMILIES, clip_texts),
    "hub": saved_text_network,
}
