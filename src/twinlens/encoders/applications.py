"""The picture networks of `keras.applications`, each with its own preprocessing."""

import re
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from twinlens.encoders.network import (
    PictureNetwork,
    load_weights,
    pretrained,
    truncated,
)
from twinlens.encoders.pooling import ColourShift
from twinlens.encoders.scaling import rescaling
from twinlens.errors import InputError

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLISHED_EFFICIENTNET = r"efficientnetb\d_notop\.h5"


@dataclass(frozen=True)
class Application:
    """A network of `keras.applications`.

    Attributes:
        build: name of its function there.
        image_size: pixels a side it was trained at.
        scaling: what it wants of pixels from 0 to 255: `"tf"` from -1 to 1, `"caffe"`,
            `"torch"`, or `"own"` where the network scales them itself.
        block_end: pattern of the layers that end a block.
    """

    build: str
    image_size: int
    scaling: str
    block_end: str


def _residual(build: str, scaling: str) -> Application:
    return Application(build, 224, scaling, r"conv\d_block\d+_out")


def _dense(build: str) -> Application:
    return Application(build, 224, "torch", r"conv\d_block\d+_concat")


def _vgg(build: str) -> Application:
    return Application(build, 224, "caffe", r"block\d_pool")


def _efficient(build: str, image_size: int) -> Application:
    return Application(build, image_size, "own", r"block\d[a-z]_project_bn")


def _convnext(build: str) -> Application:
    return Application(build, 224, "own", r"convnext_.*_block_\d+_layer_scale")


def _mobile3(build: str) -> Application:
    return Application(build, 224, "own", r"expanded_conv(_\d+)?_project_bn")


def _nasnet(build: str, image_size: int) -> Application:
    return Application(build, image_size, "tf", r"(normal|reduction)_concat_.*")


APPLICATIONS: dict[str, Application] = {
    "inception_v3": Application("InceptionV3", 299, "tf", r"mixed\d+"),
    "inception_resnet_v2": Application(
        "InceptionResNetV2", 299, "tf", r"mixed_.*|custom_scale_layer(_\d+)?"
    ),
    "xception": Application("Xception", 299, "tf", r"add(_\d+)?|block1_conv2_act"),
    "resnet50": _residual("ResNet50", "caffe"),
    "resnet101": _residual("ResNet101", "caffe"),
    "resnet152": _residual("ResNet152", "caffe"),
    "resnet50_v2": _residual("ResNet50V2", "tf"),
    "resnet101_v2": _residual("ResNet101V2", "tf"),
    "resnet152_v2": _residual("ResNet152V2", "tf"),
    "mobilenet": Application("MobileNet", 224, "tf", r"conv_pw_\d+_relu"),
    "mobilenet_v2": Application(
        "MobileNetV2", 224, "tf", r"(block_\d+|expanded_conv)_project_BN"
    ),
    "mobilenet_v3_small": _mobile3("MobileNetV3Small"),
    "mobilenet_v3_large": _mobile3("MobileNetV3Large"),
    "densenet121": _dense("DenseNet121"),
    "densenet169": _dense("DenseNet169"),
    "densenet201": _dense("DenseNet201"),
    "vgg16": _vgg("VGG16"),
    "vgg19": _vgg("VGG19"),
    "nasnet_mobile": _nasnet("NASNetMobile", 224),
    "nasnet_large": _nasnet("NASNetLarge", 331),
    "efficientnet_b0": _efficient("EfficientNetB0", 224),
    "efficientnet_b1": _efficient("EfficientNetB1", 240),
    "efficientnet_b2": _efficient("EfficientNetB2", 260),
    "efficientnet_b3": _efficient("EfficientNetB3", 300),
    "efficientnet_b4": _efficient("EfficientNetB4", 380),
    "efficientnet_b5": _efficient("EfficientNetB5", 456),
    "efficientnet_b6": _efficient("EfficientNetB6", 528),
    "efficientnet_b7": _efficient("EfficientNetB7", 600),
    "efficientnet_v2_b0": _efficient("EfficientNetV2B0", 224),
    "efficientnet_v2_b1": _efficient("EfficientNetV2B1", 240),
    "efficientnet_v2_b2": _efficient("EfficientNetV2B2", 260),
    "efficientnet_v2_b3": _efficient("EfficientNetV2B3", 300),
    "efficientnet_v2_s": _efficient("EfficientNetV2S", 384),
    "efficientnet_v2_m": _efficient("EfficientNetV2M", 480),
    "efficientnet_v2_l": _efficient("EfficientNetV2L", 480),
    "convnext_tiny": _convnext("ConvNeXtTiny"),
    "convnext_small": _convnext("ConvNeXtSmall"),
    "convnext_base": _convnext("ConvNeXtBase"),
    "convnext_large": _convnext("ConvNeXtLarge"),
    "convnext_xlarge": _convnext("ConvNeXtXLarge"),
}


def application(
    name: str, weights: str, taps: tuple[str, ...], image_size: int
) -> PictureNetwork:
    """A network of `keras.applications` with its scaling.

    Args:
        name: one of `APPLICATIONS`.
        weights: `"imagenet"`, the path of a weights file, or `"none"`.
        taps: inner layers; an empty name is the last.
        image_size: pixels a side; 0 for the size it was trained at.

    Raises:
        InputError: unknown layer; size too small; weights that cannot be had or
            belong to another network.
    """
    entry = APPLICATIONS[name]
    size = image_size or entry.image_size
    build = getattr(keras.applications, entry.build)

    def of(source: str | None) -> keras.Model:
        return build(include_top=False, weights=source, input_shape=(size, size, 3))

    try:
        base = pretrained(of, weights, entry.build)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"image_encoder.image_size is {size}, which {name} cannot take: {reason}. "
            f"It was trained at {entry.image_size} pixels."
        ) from None
    network, after = _split(base, taps)
    if weights not in ("none", "imagenet"):
        load_weights(base if after else network, base, weights)
        if re.fullmatch(PUBLISHED_EFFICIENTNET, Path(weights).name):
            _scale_as_trained(base)
    scaling = _scaling(entry.scaling, f"{name}_scale")
    return PictureNetwork(network, scaling, size, entry.block_end, after=after)


def _split(base: keras.Model, taps: tuple[str, ...]) -> tuple[keras.Model, tuple]:
    """The network to its taps, and what it does behind pooling.

    ConvNeXt's last layer normalises; Keras pools before it, as it was trained.
    """
    last = base.layers[-1]
    if taps != ("",) or not isinstance(last, layers.LayerNormalization):
        return truncated(base, taps), ()
    return keras.Model(base.input, last.input, name=base.name), (last,)


def _scaling(kind: str, name: str) -> tuple[layers.Layer, ...]:
    if kind == "tf":
        return (layers.Rescaling(1 / 127.5, offset=-1, name=name),)
    if kind == "caffe":
        return (ColourShift(name=name),)
    if kind == "torch":
        scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
        return rescaling(scale, IMAGENET_MEAN, IMAGENET_DEVIATION, name)
    return ()


def _scale_as_trained(base: keras.Model) -> None:
    """Divides EfficientNet's pixels once more by a root of the deviation.

    Its published weights were trained with that slip; Keras builds the division in
    only where it downloads them itself (tensorflow/tensorflow#49930).
    """
    (normalise,) = (x for x in base.layers if isinstance(x, layers.Normalization))
    mean, variance, count = normalise.get_weights()
    normalise.set_weights([mean, variance * np.array(IMAGENET_DEVIATION), count])
    normalise.finalize_state()
