"""KerasHub's presets, with plain errors."""

from pathlib import Path
from typing import Any

from twinlens.encoders.sentence_pieces import sentence_pieces
from twinlens.errors import InputError


def from_preset(
    classes: dict[str, str], weights: str, setting: str, instead: str = ""
) -> dict[str, Any]:
    """Objects of one preset; tokenizers on sentence pieces are such that stay.

    Args:
        classes: names of classes in `keras_hub.models` or `keras_hub.layers`, by role.
        weights: a preset's name, or a folder that KerasHub wrote.
        setting: whose value it is.
        instead: what else could be asked for, for people.

    Raises:
        InputError: it cannot be read or downloaded, or holds something else.
    """
    import keras_hub

    found = {}
    for role, name in classes.items():
        home = keras_hub.models if hasattr(keras_hub.models, name) else keras_hub.layers
        try:
            made = getattr(home, name).from_preset(weights)
            if hasattr(made, "proto"):
                made = sentence_pieces(type(made), made.proto)
            found[role] = made
        except Exception as error:  # KerasHub and its download library raise many kinds
            reason = " ".join(str(error).split())[:400]
            raise InputError(
                f"{setting} is {weights!r}. It is "
                + (
                    f"a folder that KerasHub cannot read as {name}: {reason}"
                    if Path(weights).is_dir()
                    else "neither a local folder nor a preset that could be "
                    f"downloaded: {reason}. Connect to the network once, or give the "
                    f"path of a local Hugging Face folder{instead}."
                )
            ) from None
    return found


def refuse_random(name: str, weights: str, setting: str) -> None:
    """Refuses weights `"none"` and `"imagenet"`, which such networks do not come with.

    Raises:
        InputError: says what to give.
    """
    if weights in ("none", "imagenet"):
        raise InputError(
            f"{setting} is {weights!r}, but {name} comes with neither random weights "
            "nor those of keras.applications. Give a KerasHub preset or the path of a "
            "local Hugging Face folder."
        )
