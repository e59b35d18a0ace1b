"""A training that watches itself: what is wrong, in plain words, while it happens."""

import math
from collections import Counter

import numpy as np
import pandas as pd

from twinlens.errors import InputError
from twinlens.metrics import is_collapsed

PATIENCE_EPOCHS = 3  # an untrained head needs a few epochs to leave chance level
NEAR_CHANCE = 0.98  # of the loss at chance level
COMMON_FRACTION = 0.5  # of pictures that share one caption


def check_captions(table: pd.DataFrame) -> list[str]:
    """Warnings about captions from which nothing can be learned."""
    if table.empty:
        return []
    pictures = table.groupby("caption")["image_id"].nunique()
    text, count = pictures.idxmax(), pictures.max()
    total = table["image_id"].nunique()
    if total < 2 or count < COMMON_FRACTION * total:
        return []
    return [
        f"{count:,} of {total:,} training pictures have the caption {text!r}. Texts "
        "that do not tell pictures apart teach nothing; is this the right column?"
    ]


def check_loss(losses: list[float], chance_level: float) -> list[str]:
    """Warnings about a loss that stays where it started.

    Args:
        losses: mean training loss of each epoch so far.
        chance_level: loss of a model that cannot tell pairs apart.
    """
    recent = losses[-PATIENCE_EPOCHS:]
    if len(recent) < PATIENCE_EPOCHS or min(recent) < NEAR_CHANCE * chance_level:
        return []
    return [
        f"The loss stays at {recent[-1]:.3f}; a model that cannot tell pairs apart "
        f"has {chance_level:.3f}. Do the captions belong to their pictures? Is "
        "phase1.learning_rate far too small or too large?"
    ]


def check_embeddings(images: np.ndarray, texts: np.ndarray) -> list[str]:
    """Warnings about embeddings that are all the same point."""
    sides = {"pictures": images, "captions": texts}
    return [
        f"The embeddings of all {side} have collapsed to one point: every search "
        "would find the same. Lower phase1.learning_rate, or take another loss "
        "(a triplet loss on the hardest negatives does this early)."
        for side, embeddings in sides.items()
        if len(embeddings) > 1 and is_collapsed(embeddings)
    ]


def refuse_nan(loss: float, epoch: int) -> None:
    """Stops a training whose loss is no number any more.

    Raises:
        InputError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise InputError(
            f"The loss became {loss} in epoch {epoch + 1}. The last good checkpoint "
            "is kept. Lower phase1.learning_rate, or check the features for numbers "
            "that are not finite."
        )


class Warnings:
    """Prints each warning once."""

    def __init__(self, say) -> None:
        self.say, self.seen = say, Counter()

    def __call__(self, warnings: list[str]) -> None:
        """Says those that were not said before."""
        for warning in warnings:
            kind = warning.split(" ")[1]  # numbers change, the kind of trouble stays
            if not self.seen[kind]:
                self.say(f"Warning: {warning}")
            self.seen[kind] += 1
