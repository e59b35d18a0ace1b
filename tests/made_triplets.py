"""Triplets by hand: small pictures, rows and galleries as a reader would give them."""

from unittest import mock

import pandas as pd
from PIL import Image

from twinlens.data.readers.source import NUMBER, PLACE
from twinlens.data.triplets import TRIPLET_READERS, TripletSource, load_triplets


def draw(folder, names):
    """Small pictures, named by their ids; gives the table of them."""
    for shade, name in enumerate(names):
        Image.new("L", (2, 2), shade).save(folder / f"{name}.png")
    return picture_table(folder, names)


def picture_table(folder, names):
    """Ids and paths of pictures that need not be there."""
    paths = [str(folder / f"{name}.png") for name in names]
    return pd.DataFrame({"image_id": list(names), "image_path": paths})


def triplets(*rows):
    """Rows of reference, target, wish, split and category; entries from 1 on."""
    names = ["reference_id", "target_id", "wish", "split", "category"]
    numbers = {PLACE: "cap.json, entry", NUMBER: range(1, len(rows) + 1)}
    return pd.DataFrame(rows, columns=names).assign(**numbers)


def many(count, split="train"):
    """A triplet from a to each of `count` targets, and the names of all pictures."""
    names = [f"t{number}" for number in range(count)]
    return [("a", name, "red", split, "x") for name in names], ["a", *names]


def published(*rows):
    """The published gallery of rows of id, split and category."""
    names = ["image_id", "split", "category"]
    return {"original split": pd.DataFrame(rows, columns=names)}


def made_source(rows, pictures, galleries=None, **more):
    """What a reader would give."""
    return TripletSource(rows, pictures, "as made", True, galleries or {}, **more)


def load_made(source, **options):
    """Loads it as if a reader had given it."""
    with mock.patch.dict(TRIPLET_READERS, made=lambda path, options: source):
        return load_triplets("made", "here", **options)
