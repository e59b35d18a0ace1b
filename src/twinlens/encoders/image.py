"""Picture encoders by name: pixels in, features out."""

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from twinlens.data import images
from twinlens.encoders.base import (
    ImageEncoder,
    SpatialPooling,
    building,
    normalisations,
    weights_digest,
)
from twinlens.errors import BrokenImageError, InputError

INCEPTION_MIN_SIZE = 75  # pixels; below, the last grid would be empty


def image_encoder(
    name: str = "inception_v3",
    weights: str = "imagenet",
    layer: str | tuple[str, ...] = "",
    pooling: str = "avg",
    image_size: int = 299,
    resize: str = "stretch",
    dtype: str = "float32",
    seed: int = 0,
    corpus: Iterable[str] = (),
) -> ImageEncoder:
    """Builds a picture encoder.

    Args:
        name: one of `IMAGE_ENCODERS`.
        weights: a preset such as `"imagenet"`, the path of a weights file, or
            `"none"` for random weights from `seed`.
        layer: an inner layer to tap, or several to join; empty for the last.
        pooling: over places, `"avg"`, `"max"` or `"gem"`.
        image_size: pixels a side.
        resize: `"stretch"` or `"pad"`.
        dtype: in which caches are filled, `"float32"` or `"bfloat16"`; the model
            itself and the features are float32.
        seed: of random weights.
        corpus: files of training pictures; with weights `"none"`, batch
            normalisation starts from the statistics of these, all in one batch.

    Raises:
        InputError: unknown name or layer; size too small; weights that cannot be
            had or belong to another network.
    """
    if name not in IMAGE_ENCODERS:
        raise InputError(
            f"Unknown picture encoder {name!r}. Known: {', '.join(IMAGE_ENCODERS)}."
        )
    taps = (layer,) if isinstance(layer, str) else tuple(layer)
    with building("float32", seed):
        inputs = keras.Input((image_size, image_size, 3), name="pixels")
        grids = IMAGE_ENCODERS[name](inputs, weights, taps, image_size)
        pool = SpatialPooling(pooling, name="pool")
        pooled = [pool(grid) for grid in grids]
        joined = pooled[0] if len(pooled) == 1 else layers.Concatenate()(pooled)
        model = keras.Model(inputs, joined, name=name)
    digest = weights_digest(model)  # before what may differ in the last bit
    calibrated = _calibrate(model, corpus, resize) if weights == "none" else ""
    model.trainable = False
    description = {
        "encoder": name,
        "layer": list(taps),
        "pooling": pooling,
        "image_size": image_size,
        "resize": resize,
        "dtype": dtype,
        "weights": digest,
        **({"calibrated_on": calibrated} if calibrated else {}),
    }
    ends = BLOCK_ENDS[name]
    return ImageEncoder(model, image_size, resize, description, ends, dtype)


def _calibrate(model: keras.Model, files: Iterable[str], resize: str) -> str:
    """Sets the statistics of batch normalisation; returns a digest of the pictures.

    Random weights come with mean 0 and variance 1 everywhere, so that training, which
    normalises by batches, would start from quite another function.
    """
    size, pixels, digest = model.input_shape[1], [], hashlib.blake2b(digest_size=16)
    for file in files:
        with contextlib.suppress(BrokenImageError):  # counted where it is encoded
            pixels.append(images.load(file, size, resize))
            digest.update(pixels[-1].tobytes())
    if not pixels:
        return ""
    found = normalisations(model)
    momenta = [layer.momentum for layer in found]
    for layer in found:
        layer.momentum = 0.0  # forget what was before
    model(np.stack(pixels), training=True)
    for layer, momentum in zip(found, momenta, strict=True):
        layer.momentum = momentum
    return digest.hexdigest()


def _inception_v3(inputs, weights: str, taps: tuple[str, ...], size: int) -> list:
    """InceptionV3's grids at `taps`; pixels are scaled to [-1, 1] inside."""
    if size < INCEPTION_MIN_SIZE:
        raise InputError(
            f"image_encoder.image_size is {size}, but inception_v3 needs at least "
            f"{INCEPTION_MIN_SIZE} pixels a side."
        )
    shape = (size, size, 3)
    base = _pretrained(
        lambda source: keras.applications.InceptionV3(
            include_top=False, weights=source, input_shape=shape
        ),
        weights,
        "InceptionV3",
    )
    network = _truncated(base, taps)
    if weights not in ("none", "imagenet"):
        _load_weights(network, base, weights)
    grids = network(layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs))
    return list(grids) if isinstance(grids, list | tuple) else [grids]


def with_inner(encoder: ImageEncoder, layer: str) -> keras.Model:
    """The encoder's model with the mean of an inner grid beside its feature.

    Args:
        encoder: whose layers, and so weights, the model shares.
        layer: name of a layer below the encoder's last.

    Returns:
        Keras model `(n, image_size, image_size, 3)` → `(n, feature_dim + channels)`.

    Raises:
        InputError: the network has no such layer.
    """
    parts = encoder.model.layers
    (at,) = (i for i, part in enumerate(parts) if isinstance(part, keras.Model))
    network = parts[at]
    inner = _truncated(network, (layer,), "phase2.auxiliary_layer").output
    wide = keras.Model(network.input, [*network.outputs, inner])
    (pool,) = (part for part in parts if isinstance(part, SpatialPooling))
    inputs = x = keras.Input(encoder.model.input_shape[1:])
    for part in parts[1:at]:
        x = part(x)
    *grids, grid = wide(x)
    pooled = [*map(pool, grids), SpatialPooling("avg")(grid)]
    return keras.Model(inputs, layers.Concatenate()(pooled))


def _pretrained(build: Callable, weights: str, network: str) -> keras.Model:
    """The network with its published weights if asked for, else random ones."""
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


def _truncated(
    base: keras.Model, taps: tuple[str, ...], setting: str = "image_encoder.layer"
) -> keras.Model:
    names = {layer.name for layer in base.layers}
    unknown = [tap for tap in taps if tap and tap not in names]
    if unknown:
        blocks = [name for name in names if name.startswith("mixed")]
        raise InputError(
            f"{setting} {unknown[0]!r} is not in this network. Its blocks: "
            f"{', '.join(sorted(blocks, key=lambda n: (len(n), n)))}."
        )
    outputs = [base.get_layer(tap).output if tap else base.output for tap in taps]
    return keras.Model(base.input, outputs[0] if len(outputs) == 1 else outputs)


def _load_weights(network: keras.Model, base: keras.Model, weights: str) -> None:
    """Loads a file that holds the whole base, or just as far as the taps reach."""
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"image_encoder.weights is {weights!r}: neither 'imagenet' nor 'none', "
            "and there is no such file. Give the path of a .weights.h5 or .h5 file."
        )
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


IMAGE_ENCODERS: dict[str, Callable] = {"inception_v3": _inception_v3}
BLOCK_ENDS = {"inception_v3": r"mixed\d+"}
