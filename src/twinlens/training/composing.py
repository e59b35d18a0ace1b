"""Composed queries of a split: embedded in blocks, and measured."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from twinlens import metrics
from twinlens.composed import ComposedHeads
from twinlens.training.raw_triplets import RawTriplets
from twinlens.training.triplets import TripletFeatures

BLOCK = 512  # queries a call
KS = (1, 5, 10, 50)


def query_embedder(
    heads: ComposedHeads, image_shape: tuple[int, ...], text_shape: tuple[int, ...]
) -> Callable[[TripletFeatures], np.ndarray]:
    """A function from triplets to `(triplets, embedding_dim)` unit vectors.

    Args:
        heads: built; their weights may change between calls.
        image_shape: of one picture's features.
        text_shape: of one wish's.
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *image_shape], tf.float32),
            tf.TensorSpec([None, *text_shape], tf.float32),
        ]
    )
    def compose(images, texts):
        return heads.compose(images, texts)

    def embed(triplets: TripletFeatures) -> np.ndarray:
        images, texts = triplets.plain_images, triplets.texts
        found = []
        for start in range(0, len(triplets), BLOCK):
            some = slice(start, start + BLOCK)
            references = images[triplets.references[some]].astype(np.float32)
            words = texts[triplets.text_rows[some]].astype(np.float32)
            found.append(compose(references, words).numpy())
        return np.concatenate(found)

    return embed


def composed_ranks(
    queries: np.ndarray,
    pictures: np.ndarray,
    triplets: TripletFeatures | RawTriplets,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each query's target in its category's gallery, and that one's size.

    Args:
        queries: `(triplets, dim)` unit vectors.
        pictures: `(n, dim)` unit vectors of all pictures.
        triplets: whose galleries are rows of `pictures`.
    """
    ranks = np.zeros(len(queries), np.int64)
    sizes = np.zeros(len(queries), np.int64)
    categories = triplets.table["category"].to_numpy()
    for category, rows in triplets.galleries.items():
        own = np.flatnonzero(categories == category)
        places = np.full(len(pictures), -1)
        places[rows] = np.arange(len(rows))
        left_out = places[triplets.references[own]]
        if triplets.keeps_reference:
            left_out = np.full(len(own), -1)
        ranks[own] = metrics.target_ranks(
            queries[own], pictures[rows], places[triplets.targets[own]], left_out
        )
        sizes[own] = len(rows) - (left_out >= 0)
    return ranks, sizes


def composed_metrics(
    queries: np.ndarray, pictures: np.ndarray, triplets: TripletFeatures | RawTriplets
) -> dict[str, float]:
    """`composed/…` over all queries, and their `recall_sum` (R@1 + R@5 + R@10)."""
    ranks, sizes = composed_ranks(queries, pictures, triplets)
    values = metrics.composed_values(ranks, sizes, KS)
    found = {
        f"composed/{name}": value for name, value in metrics.summarise(values).items()
    }
    return found | {
        "recall_sum": sum(found[f"composed/recall@{k}"] for k in (1, 5, 10))
    }
