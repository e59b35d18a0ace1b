"""Contrastive losses over a batch of pairs, on `keras.ops`.

Every loss takes the same two arguments and obeys one rule: rows of the same
picture and rows of the same text are never each other's negatives.

Call arguments of every loss:
    y_true: `(batch, 2)` integers: the picture's id and the text's id of each pair.
        Equal ids mark captions of one picture, or one text used twice.
        `SupervisedContrastiveLoss` also wants a label's number (see there).
    y_pred: `(batch, batch)` float logits; row `i`, column `j` scores picture `i`
        against caption `j`, so the pairs lie on the diagonal. `SoftTargetLoss`
        also wants the similarities inside each tower (see there).
"""

import math

import keras
from keras import ops

from twinlens.errors import InputError

MASKED = -1e9  # a logit of exactly zero probability in float32


def same_rows(ids):
    """Which rows show the same picture or the same text.

    Args:
        ids: `(batch, 2)` integers, or more columns, which do not count.

    Returns:
        `(batch, batch)` boolean; the diagonal is true.
    """
    ids = ids[:, :2]
    equal = ops.equal(ids[:, None, :], ids[None, :, :])
    return ops.any(equal, axis=-1)


def _others(ids):
    """`(batch, batch)` boolean: same picture or text, but not the pair itself."""
    same = same_rows(ids)
    return ops.logical_and(
        same, ops.logical_not(ops.eye(ops.shape(same)[0], dtype="bool"))
    )


def _cross_entropy(targets, logits):
    """`(batch,)` nats, of `(batch, batch)` shares of the right answers in each row."""
    log_probability = logits - ops.logsumexp(logits, axis=1, keepdims=True)
    return -ops.sum(targets * log_probability, axis=1)


class _PairLoss(keras.losses.Loss):
    """What the losses share: a start temperature, float32, the mean over pairs."""

    needs_similarities = False  # whether y_pred carries the towers' own similarities
    needs_labels = False  # whether y_true carries a third column: the label
    learns_temperature = True
    initial_bias = None  # a learned bias on the logits, where a loss wants one

    def __init__(self, temperature: float = 0.07, name: str | None = None) -> None:
        super().__init__(name=name, reduction="mean", dtype="float32")
        self.temperature = temperature

    def get_config(self) -> dict:
        """Settings that build the same loss again."""
        return {"temperature": self.temperature, "name": self.name}

    def chance_level(self, batch_size: int) -> float:
        """Loss of a model that cannot tell pairs apart: `log(batch)` nats here."""
        return math.log(batch_size)


@keras.saving.register_keras_serializable(package="twinlens")
class InfoNCELoss(_PairLoss):
    """Symmetric InfoNCE: each image picks its caption, each caption its image.

    Other captions of the same image are masked: neither target nor negative.

    Args:
        temperature: at the start; learned from there.
        label_smoothing: this share of each target is spread evenly over the
            candidates that are not masked.

    Returns:
        `(batch,)` loss in nats, averaged by Keras. A model that cannot tell pairs
        apart scores `log(batch)`.

    Reference:
        Radford et al. 2021, https://arxiv.org/abs/2103.00020, figure 3.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        label_smoothing: float = 0.0,
        name: str = "info_nce",
    ) -> None:
        super().__init__(temperature, name)
        self.label_smoothing, self.smooths = label_smoothing, bool(label_smoothing)

    def call(self, y_true, y_pred):
        """`(batch,)` loss in nats."""
        masked = _others(y_true)
        logits = ops.where(masked, MASKED, ops.cast(y_pred, "float32"))
        by_image = self._pick_diagonal(logits, masked)
        by_text = self._pick_diagonal(ops.transpose(logits), masked)
        return (by_image + by_text) / 2

    def _pick_diagonal(self, logits, masked):
        log_probability = logits - ops.logsumexp(logits, axis=1, keepdims=True)
        hit = -ops.diagonal(log_probability)
        if not self.smooths:
            return hit
        candidates = ops.sum(ops.cast(ops.logical_not(masked), "float32"), axis=1)
        spread = ops.sum(ops.where(masked, 0.0, -log_probability), axis=1) / candidates
        return (1 - self.label_smoothing) * hit + self.label_smoothing * spread

    def get_config(self) -> dict:
        """Settings that build the same loss again."""
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="twinlens")
class SupervisedContrastiveLoss(_PairLoss):
    """InfoNCE with several right answers: every pair of the same label is one.

    Each image is to pick all captions of its label, in equal shares, and each
    caption all images. Rows of the same picture or text whose labels differ are
    masked: neither target nor negative. With as many labels as pairs it is InfoNCE.

    Call arguments:
        y_true: `(batch, 3)` integers: picture, text and label of each pair.

    Returns:
        `(batch,)` loss in nats, averaged by Keras: the mean over the row's right
        answers, outside of the logarithm. A model that cannot tell pairs apart
        scores `log(batch)`; the best one the mean logarithm of how many are right.

    Reference:
        Khosla et al. 2020, https://arxiv.org/abs/2004.11362, equation 2 (L_out);
        between pictures and texts: Yang et al. 2022, https://arxiv.org/abs/2204.03610.
    """

    needs_labels = True

    def __init__(self, temperature: float = 0.07, name: str = "supervised") -> None:
        super().__init__(temperature, name)

    def call(self, y_true, y_pred):
        """`(batch,)` loss in nats."""
        columns = y_true.shape[-1]
        if columns not in (3, None):  # None: gathered from replicas
            raise InputError(
                f"The loss {self.name!r} was given {columns} columns of ids; "
                "expected picture, text and label. Name the attribute that holds the "
                "label: loss.positives."
            )
        labels = y_true[:, 2]
        right = ops.equal(labels[:, None], labels[None, :])
        masked = ops.logical_and(_others(y_true), ops.logical_not(right))
        logits = ops.where(masked, MASKED, ops.cast(y_pred, "float32"))
        shares = ops.cast(right, "float32")
        shares = shares / ops.sum(shares, axis=1, keepdims=True)
        by_image = _cross_entropy(shares, logits)
        by_text = _cross_entropy(shares, ops.transpose(logits))
        return (by_image + by_text) / 2


@keras.saving.register_keras_serializable(package="twinlens")
class SigmoidLoss(_PairLoss):
    """Each cell of the batch is its own yes-or-no question.

    Logits carry a learned bias that starts at -10, since almost all cells are no.

    Returns:
        `(batch,)` loss in nats: row sums of the binary cross-entropy, so that the
        mean over the batch is the paper's (its sum over cells, by `batch`).

    Reference:
        Zhai et al. 2023, https://arxiv.org/abs/2303.15343, algorithm 1.
    """

    initial_bias = -10.0  # the paper's, section 3.2

    def __init__(self, temperature: float = 0.1, name: str = "sigmoid") -> None:
        super().__init__(temperature, name)

    def call(self, y_true, y_pred):
        """`(batch,)` loss in nats."""
        logits = ops.cast(y_pred, "float32")
        sign = 2 * ops.eye(ops.shape(logits)[0], dtype="float32") - 1
        cells = ops.softplus(-sign * logits)  # -log sigmoid(sign * logit)
        return ops.sum(ops.where(_others(y_true), 0.0, cells), axis=1)

    def chance_level(self, batch_size: int) -> float:
        """Best constant answer: probability 1/batch in every cell, in nats a row."""
        miss = (batch_size - 1) * math.log1p(-1 / batch_size)
        return math.log(batch_size) - miss


@keras.saving.register_keras_serializable(package="twinlens")
class SoftTargetLoss(_PairLoss):
    """Cross-entropy against how alike pictures and captions are among themselves.

    Targets are `softmax((image @ image.T + text @ text.T) / (2 * temperature))` of
    unit vectors, without gradient; the Keras example and the first prototype train
    un-normalised products and let gradients flow into the targets.

    Call arguments:
        y_pred: `(batch, 3 * batch)`: logits, then cosines between pictures, then
            cosines between captions.

    Returns:
        `(batch,)` loss in nats.

    Reference:
        https://keras.io/examples/vision/nl_image_search/
    """

    needs_similarities = True

    def __init__(self, temperature: float = 0.07, name: str = "soft_target") -> None:
        super().__init__(temperature, name)

    def call(self, y_true, y_pred):
        """`(batch,)` loss in nats."""
        masked = _others(y_true)
        parts = ops.split(ops.cast(y_pred, "float32"), 3, axis=1)
        logits, images, texts = (ops.where(masked, MASKED, part) for part in parts)
        alike = ops.stop_gradient((images + texts) / (2 * self.temperature))
        by_image = _cross_entropy(ops.softmax(alike, axis=1), logits)
        by_text = _cross_entropy(
            ops.softmax(ops.transpose(alike), axis=1), ops.transpose(logits)
        )
        return (by_image + by_text) / 2


@keras.saving.register_keras_serializable(package="twinlens")
class TripletLoss(_PairLoss):
    """The pair must beat every miss by a margin, in cosine.

    `hardest=False` sums the hinges over all misses; `hardest=True` takes the
    hardest miss alone (VSE++), which can collapse early: the loss then sits at
    `2 * margin`. Train some epochs with the sum first.

    Args:
        margin: in cosine, which the logits are (scale 1, never learned).
        hardest: only the hardest miss of each row and column counts.

    Returns:
        `(batch,)` hinges of the row plus those of the column, in cosine.

    Reference:
        Faghri et al. 2018, https://arxiv.org/abs/1707.05612, equations 5 and 6.
    """

    learns_temperature = False

    def __init__(
        self, margin: float = 0.2, hardest: bool = False, name: str = "triplet"
    ) -> None:
        super().__init__(1.0, name)
        self.margin, self.hardest = margin, hardest

    def call(self, y_true, y_pred):
        """`(batch,)` hinges in cosine."""
        scores = ops.cast(y_pred, "float32")
        same = same_rows(y_true)
        return self._hinges(scores, same) + self._hinges(ops.transpose(scores), same)

    def _hinges(self, scores, same):
        hinge = ops.relu(self.margin + scores - ops.diagonal(scores)[:, None])
        hinge = ops.where(same, 0.0, hinge)
        return ops.max(hinge, axis=1) if self.hardest else ops.sum(hinge, axis=1)

    def get_config(self) -> dict:
        """Settings that build the same loss again."""
        return {"margin": self.margin, "hardest": self.hardest, "name": self.name}

    def chance_level(self, batch_size: int) -> float:
        """All cosines equal: every hinge is the margin."""
        misses = 1 if self.hardest else batch_size - 1
        return 2 * self.margin * misses
