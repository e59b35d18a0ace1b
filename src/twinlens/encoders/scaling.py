"""How the makers of a vision transformer scaled pixels."""

from pathlib import Path

from keras import layers

from twinlens.encoders.folders import read_json

FILE = "preprocessor_config.json"


def folder_scaling(folder: Path, name: str, setting: str) -> tuple[layers.Layer, ...]:
    """As `preprocessor_config.json` of a Hugging Face folder says.

    Args:
        folder: that has the file.
        name: of the layer.
        setting: whose value the folder is.

    Returns:
        Layers for pixels from 0 to 255.
    """
    said = read_json(folder / FILE, setting)
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1
    mean, deviation = [0.0] * 3, [1.0] * 3
    if said.get("do_normalize", True):
        mean, deviation = said["image_mean"], said["image_std"]
    return rescaling([factor / each for each in deviation], mean, deviation, name)


def crop_size(folder: Path, setting: str) -> int:
    """Pixels a side that pictures were cropped to; 0 where the folder does not say."""
    said = read_json(folder / FILE, setting).get("crop_size")
    return said.get("height", 0) if isinstance(said, dict) else said or 0


def preset_scaling(converter, name: str) -> tuple[layers.Layer, ...]:
    """As KerasHub's image converter does it, without its resizing."""
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return (layers.Rescaling(scale, offset=offset, name=name),)


def rescaling(scale, mean, deviation, name: str) -> tuple[layers.Layer, ...]:
    """Pixels times `scale`, less `mean / deviation`; one number a channel each."""
    offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
    return (layers.Rescaling(scale, offset=offset, name=name),)
