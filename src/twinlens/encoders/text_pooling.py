"""From the states of a text's tokens to one vector."""

from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers

from twinlens.encoders.bert_weights import SETTING
from twinlens.encoders.checkpoint import Checkpoint
from twinlens.encoders.folders import SentenceModules, read_json
from twinlens.encoders.pooling import MaskedMax, MaskedMean, MaskedTokens
from twinlens.encoders.text_network import TextNetwork, linear
from twinlens.errors import InputError

POOLINGS = {"mean": MaskedMean, "max": MaskedMax, "tokens": MaskedTokens}
DENSE_ACTIVATIONS = {  # by the name of PyTorch's class
    "Tanh": "tanh",
    "Identity": "linear",
    "ReLU": "relu",
    "GELU": "gelu",
}


def text_feature(
    network: TextNetwork,
    pooling: str,
    layer: int | tuple[int, ...],
    modules: SentenceModules | None,
) -> tuple[str, keras.KerasTensor]:
    """Pools a network's tokens.

    Args:
        network: before pooling.
        pooling: as `text_encoder` has it.
        layer: as `text_encoder` has it.
        modules: what a sentence-transformers folder says, if it is one.

    Returns:
        What `"auto"` came to, and the feature, symbolic `(n, dim)`.

    Raises:
        InputError: the network has no such layer or pooling.
    """
    taps = (layer,) if isinstance(layer, int) else tuple(layer)
    if not network.states and (pooling != "auto" or taps != (-1,)):
        raise InputError(
            f"text_encoder.pooling is {pooling!r} and layer is {layer}, but this "
            "encoder gives one vector for a text, from no layers of tokens. Leave "
            "pooling at 'auto' and layer at -1."
        )
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
    return POOLINGS[pooling]()(tokens, network.inputs["padding_mask"])


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


def _dense(folder: Path) -> Callable:
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
