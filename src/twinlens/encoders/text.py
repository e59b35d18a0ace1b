"""Text encoders by name: strings in, features out."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import keras
from keras import layers

from twinlens.encoders.base import TextEncoder, building, weights_digest
from twinlens.encoders.bert_family import BERT_FAMILIES, bert_network
from twinlens.encoders.bert_weights import SETTING
from twinlens.encoders.checkpoint import Checkpoint
from twinlens.encoders.folders import SentenceModules, read_json, sentence_modules
from twinlens.encoders.network import nearest
from twinlens.encoders.pooling import MaskedMax, MaskedMean
from twinlens.encoders.random_text import RandomSize, random_bert
from twinlens.encoders.saved_model import saved_text_network, title_of
from twinlens.encoders.text_network import TextNetwork, linear, tokenize_function
from twinlens.errors import InputError

ARITHMETIC = 2  # raised when the same weights come to give other features
DEFAULT_SIZE = RandomSize()
DENSE_ACTIVATIONS = {  # by the name of PyTorch's class
    "Tanh": "tanh",
    "Identity": "linear",
    "ReLU": "relu",
    "GELU": "gelu",
}


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
) -> TextEncoder:
    """Builds a text encoder.

    Args:
        name: one of `TEXT_ENCODERS`; behind `"hub:"` stands a handle of TF-Hub or a
            folder with a SavedModel.
        weights: KerasHub preset; local folder of Hugging Face or
            sentence-transformers; or `"none"` for random weights from `seed` in a
            BERT of the given `size`.
        pooling: `"pooler"` (the trained layer on the first token), `"cls"` (the
            first token), `"mean"` or `"max"` (over all tokens), `"projection"` (what
            CLIP and SigLIP were trained to give); `"auto"`: what a
            sentence-transformers folder says, or a projection, else the mean.
        layer: transformer layer, or several to join; -1 is the last.
        sequence_length: tokens with start and end; longer texts are cut.
        dtype: of the computation, `"float32"` or `"bfloat16"`; features are float32.
        seed: of random weights.
        size: of the network, with weights `"none"` only.
        corpus: training captions, from which the vocabulary is made; with weights
            `"none"` only.
        preprocessor: handle or folder of the SavedModel that cuts texts into tokens
            for an encoder behind `"hub:"`.

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
    modules = None if is_saved else sentence_modules(weights, SETTING)
    if modules and modules.sequence_length:
        sequence_length = min(sequence_length, modules.sequence_length)
    with building(dtype, seed):
        network = (
            saved_text_network(name, weights, preprocessor)
            if is_saved
            else _open(name, weights, modules, (sequence_length, size, corpus))
        )
        network.check_length(sequence_length)
        mode, feature = _feature(network, pooling, layer, modules)
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
    )


def _open(
    name: str, weights: str, modules: SentenceModules | None, random: tuple
) -> TextNetwork:
    if weights == "none":
        if name != "bert":
            raise InputError(
                f"text_encoder.weights is 'none', but random weights are offered for "
                f"'bert' only, not for {name!r}. Give a preset or a folder."
            )
        return random_bert(*random)
    source = str(modules.transformer) if modules else weights
    network = TEXT_ENCODERS[name](name, source)
    if modules and modules.lowercase:
        network = replace(network, lowercase=True)
    return network


# === From the states of all tokens to one vector ===


def _feature(
    network: TextNetwork,
    pooling: str,
    layer: int | tuple[int, ...],
    modules: SentenceModules | None,
) -> tuple[str, keras.KerasTensor]:
    """What `"auto"` came to, and the feature."""
    taps = (layer,) if isinstance(layer, int) else tuple(layer)
    if pooling == "auto":
        if modules and taps == (-1,):
            return _as_sentence_transformers(network, modules)
        pooling = "mean" if network.own is None else "projection"
    whole = {"pooler": network.pooled, "projection": network.own}
    if pooling in whole:
        if taps != (-1,):
            raise InputError(
                f"text_encoder.pooling={pooling!r} reads the last layer only, but "
                f"layer is {layer}. Take pooling 'cls' or 'mean' for inner layers."
            )
        if whole[pooling] is None:
            raise InputError(
                f"text_encoder.pooling is {pooling!r}, which this network has not. "
                "Take 'mean', 'cls' or 'max'."
            )
        return pooling, whole[pooling]
    return pooling, _joined([_pool(network, pooling, tap) for tap in taps])


def _pool(network: TextNetwork, pooling: str, tap: int):
    tokens = _state(network.states, tap)
    if pooling == "cls":
        return tokens[:, 0, :]
    pool = MaskedMax() if pooling == "max" else MaskedMean()
    return pool(tokens, network.inputs["padding_mask"])


def _state(states: list, tap: int):
    count = len(states)
    if not -count <= tap < count:
        raise InputError(
            f"text_encoder.layer is {tap}, but this network has the layers 0 to "
            f"{count - 1}, or counted from the end -{count} to -1."
        )
    return states[tap]


def _joined(vectors: list):
    return vectors[0] if len(vectors) == 1 else layers.Concatenate()(vectors)


def _as_sentence_transformers(network: TextNetwork, modules: SentenceModules) -> tuple:
    """Pooling, linear layers and normalisation as the folder says."""
    vector = _joined([_pool(network, each, -1) for each in modules.poolings])
    for folder in modules.dense:
        vector = _dense(folder)(vector)
    if modules.normalise:
        vector = layers.UnitNormalization(name="normalise")(linear("pooled")(vector))
    steps = [*modules.poolings, *["dense"] * len(modules.dense)]
    return "+".join(steps + ["unit"] * modules.normalise), vector


def _dense(folder) -> Callable:
    config = read_json(folder / "config.json", SETTING)
    activation = config.get("activation_function", "Identity").rsplit(".", 1)[-1]
    if activation not in DENSE_ACTIVATIONS:
        raise InputError(
            f"{SETTING}: {folder} has the activation {activation!r}. Known: "
            f"{', '.join(DENSE_ACTIVATIONS)}."
        )
    dense = layers.Dense(
        config["out_features"],
        activation=DENSE_ACTIVATIONS[activation],
        use_bias=config.get("bias", True),
        name=folder.name,
    )
    dense.build((None, config["in_features"]))
    Checkpoint(folder, "linear.weight", (), SETTING).fill(dense, "linear")
    return dense


TEXT_ENCODERS: dict[str, Callable[..., TextNetwork]] = {
    **dict.fromkeys(BERT_FAMILIES, bert_network),
    "hub": saved_text_network,
}
