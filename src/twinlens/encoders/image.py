"""Picture encoders by name: pixels in, features out."""

from collections.abc import Callable, Iterable
from functools import partial

import keras
from keras import layers

from twinlens.data import images
from twinlens.encoders.applications import APPLICATIONS, application
from twinlens.encoders.base import ImageEncoder, building, weights_digest
from twinlens.encoders.calibration import calibrate
from twinlens.encoders.clip import clip_pictures
from twinlens.encoders.clip_families import CLIP_FAMILIES
from twinlens.encoders.network import (
    PictureNetwork,
    nearest,
    outputs_of,
    title_of,
    truncated,
)
from twinlens.encoders.places import GridPooling, check_joined, places_shared
from twinlens.encoders.pooling import SpatialPooling
from twinlens.encoders.saved_model import saved_picture_network
from twinlens.encoders.segmentation import segment_of
from twinlens.encoders.vision_families import VISION_FAMILIES
from twinlens.encoders.vision_transformers import vision_transformer
from twinlens.errors import InputError


def image_encoder(
    name: str | tuple[str, ...] = "inception_v3",
    weights: str | tuple[str, ...] = "imagenet",
    layer: str | tuple[str, ...] = "",
    pooling: str = "auto",
    image_size: int = 0,
    resize: str = "stretch",
    dtype: str = "float32",
    seed: int = 0,
    segment: str = "",
    segment_score: float = 0.5,
    segment_classes: tuple[int, ...] = (),
    grid: int = 0,
    corpus: Iterable[str] = (),
) -> ImageEncoder:
    """Builds a picture encoder.

    Args:
        name: one of `IMAGE_ENCODERS`, or several whose features are joined; each may
            name a layer: `("inception_v3:mixed8", "mobilenet_v2")`. Behind `"hub:"`
            stands a handle of TF-Hub or a folder with a SavedModel.
        weights: a preset such as `"imagenet"`, the path of a weights file or folder,
            or `"none"` for random weights from `seed`; one for all, or one for each
            network.
        layer: an inner layer to tap, or several to join; empty for the last. Of a
            single network only.
        pooling: over places, `"avg"`, `"max"`, `"gem"`, `"cls"` (a vision
            transformer's first token), `"tokens"` (every place by itself, for heads
            that fuse) or `"projection"` (what CLIP and SigLIP were trained to give);
            `"auto"`: what suits the network.
        image_size: pixels a side; 0 for the network's own size, of several the
            largest.
        resize: `"stretch"` or `"pad"`.
        dtype: in which caches are filled, `"float32"` or `"bfloat16"`; the model
            itself and the features are float32.
        seed: of random weights.
        segment: what cuts products out before pictures become square; `segment_of`.
        segment_score: least score of a detection.
        segment_classes: classes of detections; empty: all.
        grid: with pooling `"tokens"`, places a side, each the mean of those it covers;
            0: all there are. Layers of several sizes can then be joined.
        corpus: files of training pictures; with weights `"none"`, batch
            normalisation starts from the statistics of these, all in one batch.

    Raises:
        InputError: unknown name or layer; size or grid that the network cannot take;
            weights that cannot be had or belong to another network.
    """
    if grid and pooling != "tokens":
        raise InputError(
            f"image_encoder.grid is {grid}, but image_encoder.pooling is {pooling!r}, "
            "which leaves no places. Set pooling to 'tokens', or leave the grid at 0."
        )
    wanted = _wanted(name, weights, layer)
    cutter = segment_of(segment, segment_score, segment_classes)
    with building("float32", seed):
        networks = [open_network(*each, image_size) for each in wanted]
        size = image_size or max(network.image_size for network in networks)
        if len(networks) == 1 and size != networks[0].image_size:
            raise InputError(
                f"image_encoder.image_size is {size}, but {name} with these weights "
                f"takes {networks[0].image_size} pixels only. Leave it at 0."
            )
        inputs = keras.Input((size, size, 3), name="pixels")
        pooled = [
            vector
            for network in networks
            for vector in _features(network, inputs, size, pooling, grid)
        ]
        check_joined(pooled)
        joined = pooled[0] if len(pooled) == 1 else layers.Concatenate()(pooled)
        names = "_".join(name for name, *_ in wanted)
        model = keras.Model(inputs, joined, name=title_of(names))
    digest = weights_digest(model)  # before what may differ in the last bit
    random = wanted[0][1] == "none"  # one is, or all are
    load = partial(images.load, size=size, resize=resize, segment=cutter)
    calibrated = calibrate(model, corpus, load) if random else ""
    model.trainable = False
    taps = [list(taps) for _, _, taps in wanted]
    modes = list(dict.fromkeys(_mode(network, pooling) for network in networks))
    programs = [network.program for network in networks]
    description = {
        "encoder": name if isinstance(name, str) else list(name),
        "layer": taps[0] if len(taps) == 1 else taps,
        "pooling": modes[0] if len(modes) == 1 else modes,
        "image_size": size,
        "resize": resize,
        "dtype": dtype,
        "weights": digest,
        **({"programs": programs} if any(programs) else {}),
        **({"calibrated_on": calibrated} if calibrated else {}),
        **({"segment": cutter.description} if cutter else {}),
        **({"grid": grid} if grid else {}),
    }
    ends = "|".join(dict.fromkeys(network.block_end for network in networks))
    similarity = networks[0].similarity if modes == ["projection"] else None
    places = (grid, grid) if grid else None
    if pooling == "tokens" and not grid:
        places = places_shared(networks)
    return ImageEncoder(
        model,
        size,
        resize,
        description,
        ends,
        dtype,
        random,
        similarity,
        cutter,
        places,
    )


def open_network(
    name: str, weights: str, taps: tuple[str, ...], image_size: int = 0
) -> PictureNetwork:
    """A picture network by its name, before pooling.

    Raises:
        InputError: unknown name; and as `image_encoder`.
    """
    kind = name.partition(":")[0]
    if kind not in IMAGE_ENCODERS:
        raise InputError(
            f"Unknown picture encoder {name!r}. {nearest(name, IMAGE_ENCODERS)} "
            "`python -m src.encoders` lists all."
        )
    return IMAGE_ENCODERS[kind](name, weights, taps, image_size)


def _wanted(
    name: str | tuple[str, ...],
    weights: str | tuple[str, ...],
    layer: str | tuple[str, ...],
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Name, weights and taps of each network."""
    names = (name,) if isinstance(name, str) else tuple(name)
    sources = (weights,) * len(names) if isinstance(weights, str) else tuple(weights)
    if len(sources) != len(names) or not names:
        raise InputError(
            f"image_encoder.name has {len(names)} networks, but image_encoder.weights "
            f"has {len(sources)}. Give one for each, or one for all."
        )
    if "none" in sources and set(sources) != {"none"}:
        raise InputError(
            f"image_encoder.weights are {', '.join(sources)}: random weights beside "
            "given ones. Statistics and training of the two differ; give weights for "
            "every network, or 'none' for all."
        )
    taps = (layer,) if isinstance(layer, str) else tuple(layer)
    found = []
    for each, source in zip(names, sources, strict=True):
        network, _, tap = each.partition(":")
        if network == "hub":  # a handle or a path follows, and no layer
            network, tap = each, ""
        if any(taps) and (tap or len(names) > 1):
            raise InputError(
                f"image_encoder.layer is {layer!r} beside the name {name!r}. Write "
                "each layer behind its network: 'vgg16:block4_pool'."
            )
        found.append((network, source, (tap,) if tap else taps))
    return found


def _mode(network: PictureNetwork, pooling: str) -> str:
    mode = network.pooling if pooling == "auto" else pooling
    if network.pooling == "none" and mode != "none":
        raise InputError(
            f"image_encoder.pooling is {pooling!r}, but {network.model.name} gives one "
            "vector a picture, with nothing to pool. Leave it at auto."
        )
    if mode == "projection" and not network.own:
        raise InputError(
            f"image_encoder.pooling is 'projection', but {network.model.name} has "
            "none. Take auto, avg, max or gem."
        )
    return mode


def _features(
    network: PictureNetwork, pixels, size: int, pooling: str, grid: int
) -> list:
    """One vector for each tap, or one row of places."""
    mode = _mode(network, pooling)
    x = pixels
    if network.image_size != size:
        own = network.image_size
        x = layers.Resizing(own, own, antialias=True)(x)
    for scale in network.scaling:
        x = scale(x)
    found = outputs_of(network.model, x)
    if mode == "projection":
        (x,) = found
        for own in network.own:
            x = own(x)
        return [x]
    if mode == "none":
        return found
    name = f"{network.model.name}_pool"
    if grid:
        pooled = [
            GridPooling(grid, network.prefix_tokens, name=f"{name}_{number}")(each)
            for number, each in enumerate(found)
        ]
    else:
        pool = SpatialPooling(mode, network.prefix_tokens, name=name)
        pooled = [pool(each) for each in found]
    for last in network.after:
        pooled = [last(vector) for vector in pooled]
    return pooled


def with_inner(encoder: ImageEncoder, layer: str) -> keras.Model:
    """The encoder's model with the mean of an inner grid beside its feature.

    Args:
        encoder: of one network; the model shares its layers, and so weights.
        layer: name of a layer below the encoder's last.

    Returns:
        Keras model `(n, image_size, image_size, 3)` → `(n, feature_dim + channels)`.

    Raises:
        InputError: the network has no such layer; several networks are joined.
    """
    parts = encoder.model.layers
    found = [i for i, part in enumerate(parts) if isinstance(part, keras.Model)]
    if len(found) != 1:
        raise InputError(
            "phase2.auxiliary_layer is set, but image_encoder.name joins several "
            "networks. An auxiliary head needs one: take one network, or leave the "
            "layer empty."
        )
    (at,) = found
    network = parts[at]
    inner = truncated(network, (layer,), "phase2.auxiliary_layer").output
    if len(inner.shape) != 4:
        raise InputError(
            f"phase2.auxiliary_layer {layer!r} gives {tuple(inner.shape)}, no grid of "
            "height, width and channels. Name a convolution's layer."
        )
    wide = keras.Model(network.input, [*network.outputs, inner])
    (pool,) = (part for part in parts if isinstance(part, SpatialPooling))
    inputs = x = keras.Input(encoder.model.input_shape[1:])
    for part in parts[1:at]:
        x = part(x)
    *grids, grid = wide(x)
    inner_mean = SpatialPooling("avg")(grid)
    if len(grids) > 1:
        pooled = [*map(pool, grids), inner_mean]
        return keras.Model(inputs, layers.Concatenate()(pooled))
    (x,) = grids
    for part in parts[at + 1 :]:
        x = part(x)
    return keras.Model(inputs, layers.Concatenate()([x, inner_mean]))


IMAGE_ENCODERS: dict[str, Callable[..., PictureNetwork]] = {
    **dict.fromkeys(APPLICATIONS, application),
    **dict.fromkeys(VISION_FAMILIES, vision_transformer),
    **dict.fromkeys(CLIP_FAMILIES, clip_pictures),
    "hub": saved_picture_network,
}
