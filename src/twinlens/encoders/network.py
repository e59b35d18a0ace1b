"""A picture network before it is pooled, and where its weights come from."""

import difflib
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import keras

from twinlens.encoders.checksums import check_published
from twinlens.errors import InputError


@dataclass(frozen=True)
class PictureNetwork:
    """Pixels to grids, or to tokens.

    Attributes:
        model: what the network sees `(n, size, size, 3)` → its outputs at the taps,
            `(n, height, width, channels)`, `(n, tokens, channels)` or `(n, channels)`
            each.
        scaling: layers from pixels, 0 to 255, to what the network wants to see.
        image_size: pixels a side.
        block_end: pattern of the layers that end a block.
        prefix_tokens: how many tokens stand before those of places.
        own: layers from the output to the vector the network itself was trained to
            give, where it has one (CLIP); pooling `"projection"`.
        after: layers that the network has behind its pooling (ConvNeXt).
        pooling: what `"auto"` means; `"none"` where the outputs are vectors already.
        similarity: of a ready pair, what multiplies a cosine, and what is added to it
            where something is.
        program: digest of a SavedModel; empty for networks that Keras builds.
    """

    model: keras.Model
    scaling: tuple[keras.layers.Layer, ...]
    image_size: int
    block_end: str
    prefix_tokens: int = 0
    own: tuple[keras.layers.Layer, ...] = field(default=())
    after: tuple[keras.layers.Layer, ...] = field(default=())
    pooling: str = "avg"
    similarity: tuple[float, float | None] | None = None
    program: str = ""


def outputs_of(network: keras.Model, inputs) -> list:
    """A network's outputs for some inputs, always as a list."""
    found = network(inputs)
    return list(found) if isinstance(found, list | tuple) else [found]


def truncated(
    base: keras.Model, taps: tuple[str, ...], setting: str = "image_encoder.layer"
) -> keras.Model:
    """The network up to some inner layers; an empty name is its end.

    Raises:
        InputError: the network has no such layer.
    """
    names = [layer.name for layer in base.layers]
    for tap in taps:
        if tap and tap not in names:
            raise InputError(
                f"{setting} {tap!r} is not in this network. {nearest(tap, names)}"
            )
    outputs = [base.get_layer(tap).output if tap else base.output for tap in taps]
    output = outputs[0] if len(outputs) == 1 else outputs
    return keras.Model(base.input, output, name=base.name)


def title_of(name: str) -> str:
    """An encoder's name as Keras takes it for a layer."""
    return re.sub(r"\W+", "_", name)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest ones."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if close:
        return f"Did you mean {', '.join(close)}?"
    shown = ", ".join(known[:40])
    return f"Known: {shown}{' …' if len(known) > 40 else ''}."


def pretrained(build: Callable, weights: str, network: str) -> keras.Model:
    """The network with its published weights if asked for, else random ones.

    Args:
        build: of `"imagenet"` or `None`.
        weights: `"imagenet"`, or anything else for random ones.
        network: its name, for people.

    Raises:
        InputError: the weights can neither be found nor downloaded.
    """
    if weights != "imagenet":
        return build(None)
    try:
        return build("imagenet")
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise InputError(
            f"The weights 'imagenet' of {network} are not on this machine and could "
            f"not be downloaded ({error}). Connect to the network once, or download "
            "the file elsewhere and give its path as image_encoder.weights, or ask "
            "for random weights with image_encoder.weights=none."
        ) from None


def load_weights(network: keras.Model, base: keras.Model, weights: str) -> None:
    """Loads a file that holds the whole base, or just as far as the taps reach.

    Raises:
        InputError: there is no such file, it is damaged, or it belongs to another
            network.
    """
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"image_encoder.weights is {weights!r}: neither 'imagenet' nor 'none', "
            "and there is no such file. Give the path of a .weights.h5 or .h5 file."
        )
    check_published(path)
    candidates = [network, base] if path.name.endswith(".weights.h5") else [base]
    failures = []
    for model in candidates:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras warns of each missing layer
                model.load_weights(path)
            return
        except Exception as error:  # h5py and Keras raise many kinds
            failures.append(" ".join(str(error).split())[:300])
    raise InputError(
        f"{path} does not hold the weights of this network as far as the layer that "
        f"is asked for. Keras says: {failures[0]}. Give the file of the same "
        "network, or a layer that the file reaches."
    )
