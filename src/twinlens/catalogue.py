"""The encoders there are: a list of all, and what one of them offers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.table import Table

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

import keras  # noqa: E402

from twinlens.encoders import IMAGE_ENCODERS, TEXT_ENCODERS  # noqa: E402
from twinlens.encoders.applications import APPLICATIONS  # noqa: E402
from twinlens.encoders.bert_family import BERT_FAMILIES  # noqa: E402
from twinlens.encoders.network import nearest  # noqa: E402
from twinlens.encoders.sizes import BASE_SIZES, PICTURE_SIZES  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.tables import console, say  # noqa: E402

VARIES = "varies"  # with the weights or settings
HUB = "hub:HANDLE"
LEGEND = """\
parameters: in millions, without a classifier; of BERT's relatives, the base size
feature: numbers; of pictures, of the last layer averaged over places
input: pixels a side, or most tokens
varies: with the weights, tfidf's with the settings
weights: imagenet and presets (of KerasHub) are downloaded; folder: Hugging Face's;
  captions: fitted on those of training; and random ones ('none') for all networks
  with imagenet, and for bert
extra: pip install "twinlens[EXTRA]"
More of one: python -m src.encoders NAME"""
SCALINGS = {  # of `Application.scaling`, for people
    "tf": "pixels from -1 to 1",
    "caffe": "BGR, from 0 to 255, less ImageNet's mean colour",
    "torch": "RGB from 0 to 1, less ImageNet's mean, divided by its deviation",
    "own": "inside the network",
}


@dataclass(frozen=True)
class Line:
    """What the list says of an encoder.

    Attributes:
        weights: where they come from.
        input: size of its input, in pixels a side or tokens.
        parameters: how many, if every network of the name has as many.
        feature_dim: numbers of a feature, likewise.
        extra: that `pip install "twinlens[EXTRA]"` names; empty where none is needed.
    """

    weights: str
    input: str = VARIES
    parameters: int | str = VARIES
    feature_dim: int | str = VARIES
    extra: str = ""

    def cells(self) -> tuple[str, ...]:
        """The cells of a table behind the name."""
        parameters, dim = self.parameters, self.feature_dim
        return (
            parameters if isinstance(parameters, str) else f"{parameters / 1e6:.1f} M",
            dim if isinstance(dim, str) else f"{dim:,}",
            self.input,
            self.weights,
            self.extra,
        )


KERAS_HUB = Line("preset, folder")
FITTED = Line("captions", "no limit", extra="tfidf")
PICTURES: dict[str, Line] = {
    **{
        name: Line("imagenet, file", f"{entry.image_size} px", *PICTURE_SIZES[name])
        for name, entry in APPLICATIONS.items()
    },
    **dict.fromkeys(("clip", "metaclip_2", "siglip"), KERAS_HUB),
    **dict.fromkeys(("vit", "deit", "dinov2", "dinov3"), KERAS_HUB),
    HUB: Line("TF-Hub, folder", extra="hub"),
}
TEXTS: dict[str, Line] = {
    **{
        name: Line("preset, folder", "512 tokens", *BASE_SIZES[name])
        for name in BERT_FAMILIES
    },
    "tfidf": FITTED,
    **dict.fromkeys(("clip", "metaclip_2", "siglip"), KERAS_HUB),
    HUB: Line("TF-Hub, folder", extra="hub"),
}


def existing(lines: dict[str, Line], encoders: dict) -> dict[str, Line]:
    """The lines of encoders that there are, and of those that the Hub has."""
    return {n: line for n, line in lines.items() if n in encoders or n == HUB}


# === The list ===


def print_encoders() -> None:
    """All picture encoders, then all text encoders."""
    sides = (
        ("picture encoders", PICTURES, IMAGE_ENCODERS),
        ("text encoders", TEXTS, TEXT_ENCODERS),
    )
    for title, lines, encoders in sides:
        table = Table(title=title, box=box.SIMPLE_HEAD)
        table.add_column("name", no_wrap=True)
        for heading in ("parameters", "feature", "input"):
            table.add_column(heading, justify="right")
        for heading in ("weights", "extra"):
            table.add_column(heading)
        for name, line in existing(lines, encoders).items():
            table.add_row(name, *line.cells())
        console.print(table)
    say(LEGEND)


# === One encoder ===


def print_encoder(name: str) -> None:
    """What one encoder offers, on both sides where it has two.

    Raises:
        InputError: there is none of this name.
    """
    sides = (
        ("picture", existing(PICTURES, IMAGE_ENCODERS), _of_pictures),
        ("text", existing(TEXTS, TEXT_ENCODERS), _of_texts),
    )
    key = HUB if name.startswith("hub:") else name
    found = [side for side in sides if key in side[1]]
    if not found:
        names = dict.fromkeys(n for _, lines, _ in sides for n in lines)
        raise InputError(f"There is no encoder {name!r}. {nearest(name, names)}")
    for kind, lines, more in found:
        say(f"{name}: a {kind} encoder")
        headings = ("parameters", "feature", "input", "weights", "extra")
        for heading, cell in zip(headings, lines[key].cells(), strict=True):
            if cell:
                say(f"  {heading:13}  {cell}")
        for line in more(key):
            say(f"  {line}")


def _of_pictures(name: str) -> Iterator[str]:
    if name not in APPLICATIONS:
        return
    entry = APPLICATIONS[name]
    yield f"preprocessing  {SCALINGS[entry.scaling]}"
    yield "image_encoder.layer can be any layer; these end a block:"
    found = block_ends(name)
    width = max(map(len, found))
    for layer, shape in found.items():
        yield f"  {layer:{width}}  {' x '.join(map(str, shape))}"


def _of_texts(name: str) -> Iterator[str]:
    if name == "tfidf":
        yield "preprocessing  lowercased words of two characters or more"
    if name not in BERT_FAMILIES:
        return
    family = BERT_FAMILIES[name]
    yield "preprocessing  case and accents as the tokenizer's files say"
    yield "text_encoder.layer counts transformer layers from 0, or from the end: -1"
    files = ", ".join(("config.json", "model.safetensors", *family.vocabulary))
    yield f"a Hugging Face folder holds {files}, model_type {family.model_type!r}"


def block_ends(name: str) -> dict[str, tuple[int, ...]]:
    """The layers that end a block of a network of `keras.applications`.

    Returns:
        Name to height, width and channels at the network's own size.
    """
    entry = APPLICATIONS[name]
    build = getattr(keras.applications, entry.build)
    shape = (entry.image_size, entry.image_size, 3)
    with keras.StatelessScope(initialize_variables=False):  # shapes, but no weights
        network = build(include_top=False, weights=None, input_shape=shape)
    return {
        layer.name: tuple(layer.output.shape[1:])
        for layer in network.layers
        if re.fullmatch(entry.block_end, layer.name)
    }
