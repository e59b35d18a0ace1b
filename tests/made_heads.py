"""Composed heads and triplets of features, so small that a test can follow them."""

import numpy as np
import pandas as pd

from twinlens.composed import ComposedHeads
from twinlens.fusion import make_fusion
from twinlens.heads import Similarity
from twinlens.token_heads import PlaceHead, WordHead
from twinlens.training.triplets import TripletFeatures

PLACES, IMAGE_DIM = 4, 5
LENGTH, TEXT_DIM = 6, 3
SETTINGS = {
    "sum": {},
    "image": {},
    "text": {},
    "combiner": {"combiner_dim": 7, "dropout": 0.0},
    "attention": {"attention_dim": 3, "rounds": 2, "dropout": 0.0},
}


def made_heads(kind="attention", places=PLACES, length=LENGTH, drop_image=0.0, **more):
    """Built heads without dropout; `places=None` and `length=None`: one vector each."""
    tokens = {"embedding_dim": 8, "hidden_dim": 6, "dropout": 0.0} | more
    heads = ComposedHeads(
        PlaceHead(2, seed=1, name="image_head", **tokens),
        WordHead(seed=2, name="text_head", **tokens),
        make_fusion(kind, name=kind, **SETTINGS[kind]),
        Similarity(0.1, name="similarity"),
        drop_image,
        name="heads",
    )
    image_shape = (IMAGE_DIM,) if places is None else (places, IMAGE_DIM)
    text_shape = (TEXT_DIM,) if length is None else (length, TEXT_DIM)
    heads.build(((None, *image_shape), (None, *text_shape)))
    return heads


def scrambled(model, seed=0):
    """The model with random weights everywhere: none of its zeros is left."""
    random = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(random.normal(0, 0.5, weight.shape))
    return model


def made_words(random, lengths, length=LENGTH, dim=TEXT_DIM):
    """`(n, length, dim)` features, zeros behind each text's end."""
    words = random.normal(size=(len(lengths), length, dim))
    words *= np.arange(length)[None, :, None] < np.array(lengths)[:, None, None]
    return words.astype("float32")


def made_images(random, count, places=PLACES, dim=IMAGE_DIM):
    """`(count, places, dim)` features."""
    return random.normal(size=(count, places, dim)).astype("float32")


def made_triplets(families=12, members=4, seed=0, keeps_reference=True, **changes):
    """Triplets with an answer that can be learned: the wish says which member.

    A picture is its family's code and its member's; each member of a family is asked
    for from the one before, by a wish of one to three words that names it.
    """
    random = np.random.default_rng(seed)
    codes = 2 * random.normal(size=(families, IMAGE_DIM))
    signs = np.random.default_rng(99).normal(size=(members, PLACES, IMAGE_DIM))
    images = codes[:, None, None] + signs
    images = images.reshape(-1, PLACES, IMAGE_DIM).astype("float32")
    said = np.random.default_rng(98).normal(size=(members, LENGTH, TEXT_DIM))
    lengths = np.arange(members) % 3 + 1
    said *= np.arange(LENGTH)[None, :, None] < lengths[:, None, None]
    numbers = np.arange(families * members)
    of_family, of_member = numbers // members, numbers % members
    targets = of_family * members + (of_member + 1) % members
    ids = np.array([f"p{n:03d}" for n in numbers], object)
    table = pd.DataFrame(
        {
            "reference_id": ids,
            "target_id": ids[targets],
            "wish": [f"the {n}" for n in of_member],
            "split": "train",
            "category": "all",
            "family": of_family,
        }
    )
    made = {
        "images": images,
        "texts": said.astype("float32"),
        "image_shape": (PLACES, IMAGE_DIM),
        "text_shape": (LENGTH, TEXT_DIM),
        "references": numbers,
        "targets": targets,
        "text_rows": (of_member + 1) % members,
        "groups": of_family,
        "table": table,
        "image_ids": ids,
        "galleries": {"all": numbers},
        "keeps_reference": keeps_reference,
    }
    return TripletFeatures(**made | changes)
