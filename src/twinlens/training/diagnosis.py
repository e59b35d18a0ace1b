"""A training that watches itself: what is wrong, in plain words, while it happens."""

import math
import re
from collections import Counter

import numpy as np
import pandas as pd

from twinlens.config import Phase2Settings
from twinlens.errors import InputError
from twinlens.metrics import is_collapsed

PATIENCE_EPOCHS = 3  # an untrained head needs a few epochs to leave chance level
NEAR_CHANCE = 0.98  # of the loss at chance level
FEW_PAIRS = 16  # in a step; fewer negatives teach little
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


def check_loss(
    losses: list[float], chance_level: float, phase: str = "phase1"
) -> list[str]:
    """Warnings about a loss that stays where it started.

    Args:
        losses: mean training loss of each epoch so far.
        chance_level: loss of a model that cannot tell pairs apart.
        phase: whose settings to name.
    """
    recent = losses[-PATIENCE_EPOCHS:]
    if len(recent) < PATIENCE_EPOCHS or min(recent) < NEAR_CHANCE * chance_level:
        return []
    return [
        f"The loss stays at {recent[-1]:.3f}; a model that cannot tell pairs apart "
        f"has {chance_level:.3f}. Do the captions belong to their pictures? Is "
        f"{phase}.learning_rate far too small or too large?"
    ]


def check_embeddings(
    images: np.ndarray, texts: np.ndarray, phase: str = "phase1"
) -> list[str]:
    """Warnings about embeddings that are all the same point."""
    sides = {"pictures": images, "captions": texts}
    return [
        f"The embeddings of all {side} have collapsed to one point: every search "
        f"would find the same. Lower {phase}.learning_rate, or take another loss "
        "(a triplet loss on the hardest negatives does this early)."
        for side, embeddings in sides.items()
        if len(embeddings) > 1 and is_collapsed(embeddings)
    ]


def check_destroyed(
    start: dict[str, float], row: dict[str, float], epochs: int
) -> list[str]:
    """Warnings about a phase 2 that falls under the level of phase 1.

    Args:
        start: metrics on val before the first step.
        row: the last epoch, with `val/` metrics where it was evaluated.
        epochs: of the whole training.
    """
    before, now = start["recall_sum"], row.get("val/recall_sum")
    if now is None or now >= before:
        return []
    over = row["epoch"] >= epochs
    hope = "" if over else "It may still recover as the rates fall; if it does not, "
    return [
        f"Validation is under the level of phase 1 after epoch {row['epoch']} of "
        f"{epochs} (recall_sum {now:.3f}, before {before:.3f}). {hope}"
        f"{'T' if over else 't'}he learning rates undo what phase 1 learned: lower "
        "phase2.image_learning_rate and phase2.text_learning_rate."
    ]


def check_negatives(pairs: int) -> list[str]:
    """Warnings about a step in which too few pairs meet."""
    if pairs >= FEW_PAIRS:
        return []
    return [
        f"Only {pairs} pairs meet in a step, so a caption has {pairs - 1} wrong "
        "pictures to tell from: too easy to teach much. Raise phase2.batch_size, or "
        "phase2.negatives where memory is short."
    ]


def check_gradients(
    image_norm: float, text_norm: float, settings: Phase2Settings
) -> list[str]:
    """Warnings about a tower that is to learn but gets no gradient.

    Args:
        image_norm: length of the gradient in the picture encoder.
        text_norm: the same in the text encoder.
        settings: the rates of both.
    """
    towers = (
        ("picture", image_norm, settings.image_learning_rate),
        ("text", text_norm, settings.text_learning_rate),
    )
    return [
        f"The {name} encoder gets no gradient, so it stays as it is: none of its "
        "weights that train has any influence on the loss. Has it weights that "
        "Keras knows of, and are not all its blocks frozen?"
        for name, norm, rate in towers
        if rate and not norm
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
            kind = re.sub(r"[\d.,]+", "", warning)[:40]  # numbers change, trouble stays
            if not self.seen[kind]:
                self.say(f"Warning: {warning}")
            self.seen[kind] += 1
