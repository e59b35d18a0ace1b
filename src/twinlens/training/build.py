"""Heads, loss and optimizer from settings."""

import keras
import numpy as np

from twinlens import losses
from twinlens.composed import ComposedHeads
from twinlens.config import Config, HeadSettings, LossSettings, TrainingSettings
from twinlens.errors import InputError
from twinlens.fusion import make_fusion
from twinlens.heads import ProjectionHead, Similarity
from twinlens.model import Heads
from twinlens.target_loss import TargetLoss
from twinlens.token_heads import PlaceHead, WordHead

CYCLE_STEPS = 4  # epochs from the low rate to the high one, as the Keras example's
CYCLIC_LOW = 1 / 2000  # of the peak: the first prototype's 1e-5 to 2e-2
FINAL_FRACTION = 0.0  # of the peak, where the cosine ends


def build_loss(settings: LossSettings, composed: bool = False) -> keras.losses.Loss:
    """The loss that the settings name, of pairs or of composed queries.

    Raises:
        InputError: composed queries have another one than InfoNCE.
    """
    if composed:
        if settings.name != "info_nce":
            raise InputError(
                f"loss.name is {settings.name!r}, but composed queries learn with "
                "'info_nce': each picks its target among the pictures of the batch. "
                "Leave loss.name away."
            )
        return TargetLoss(settings.temperature, settings.label_smoothing)
    made = {
        "info_nce": lambda: losses.InfoNCELoss(
            settings.temperature, settings.label_smoothing
        ),
        "supervised": lambda: losses.SupervisedContrastiveLoss(settings.temperature),
        "sigmoid": lambda: losses.SigmoidLoss(settings.temperature),
        "soft_target": lambda: losses.SoftTargetLoss(settings.temperature),
        "triplet": lambda: losses.TripletLoss(settings.margin, settings.hardest),
    }
    return made[settings.name]()


def build_heads(
    image_dim: int,
    text_dim: int,
    settings: HeadSettings,
    loss: keras.losses.Loss,
    seed: int,
) -> Heads:
    """Built heads for features of the given lengths, with the loss' similarity."""
    plain = settings.model_dump()
    similarity = Similarity(
        loss.temperature, loss.initial_bias, loss.learns_temperature, name="similarity"
    )
    heads = Heads(
        ProjectionHead(**plain, seed=2 * seed, name="image_head"),
        ProjectionHead(**plain, seed=2 * seed + 1, name="text_head"),
        similarity,
        name="heads",
    )
    heads.build(((None, image_dim), (None, text_dim)))
    return heads


def build_composed_heads(
    image_shape: tuple[int, ...],
    text_shape: tuple[int, ...],
    config: Config,
    loss: keras.losses.Loss,
) -> ComposedHeads:
    """Built heads with the fusion that the settings name.

    Args:
        image_shape: of one picture's features: `(places, dim)` or `(dim,)`.
        text_shape: of one wish's: `(length, dim)` or `(dim,)`.
        config: its `head` and `fusion` sections, and the seed.
        loss: whose temperature the similarity starts with.
    """
    head, own, seed = config.head, config.fusion, config.seed
    tokens = {
        "embedding_dim": head.embedding_dim,
        "hidden_dim": own.hidden_dim,
        "dropout": head.dropout,
        "input_dropout": head.input_dropout,
    }
    settings = {
        "combiner": {"combiner_dim": own.combiner_dim},
        "attention": {
            "attention_dim": own.attention_dim,
            "rounds": own.rounds,
            "dropout": head.dropout,
        },
    }
    heads = ComposedHeads(
        PlaceHead(own.place_dim, seed=2 * seed, name="image_head", **tokens),
        WordHead(seed=2 * seed + 1, name="text_head", **tokens),
        make_fusion(own.name, seed=seed, name=own.name, **settings.get(own.name, {})),
        Similarity(loss.temperature, name="similarity"),
        0.0 if own.name == "image" else own.drop_image,  # else nothing would be asked
        seed,
        name="heads",
    )
    heads.build(((None, *image_shape), (None, *text_shape)))
    return heads


class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW for gradients that are summed over replicas already."""

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:
        return grads_and_vars


def build_optimizer(
    settings: TrainingSettings,
    steps_per_epoch: int,
    first_step: int = 0,
) -> keras.optimizers.Optimizer:
    """AdamW whose weight decay spares biases, norms and the scale.

    Args:
        settings: rate, decay and schedule.
        steps_per_epoch: updates.
        first_step: of the schedule, for weights that learn from a later epoch on.
    """
    rate = _schedule(settings, steps_per_epoch)
    if first_step:
        rate = Later(rate, first_step)
    optimizer = AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "log_scale", "balance"]
    )
    return optimizer


def warmup_steps(settings: TrainingSettings, steps_per_epoch: int) -> int:
    """Updates in which the rate rises."""
    return round(settings.warmup_fraction * settings.epochs * steps_per_epoch)


def _schedule(settings: TrainingSettings, steps_per_epoch: int):
    total = settings.epochs * steps_per_epoch
    warmup = warmup_steps(settings, steps_per_epoch)
    if settings.schedule == "cyclic":
        half = CYCLE_STEPS * steps_per_epoch
        return Cyclic(settings.learning_rate * CYCLIC_LOW, settings.learning_rate, half)
    end = FINAL_FRACTION if settings.schedule == "cosine" else 1.0
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=settings.learning_rate if not warmup else 0.0,
        decay_steps=max(total - warmup, 1),
        alpha=end,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


@keras.saving.register_keras_serializable(package="twinlens")
class Cyclic(keras.optimizers.schedules.LearningRateSchedule):
    """A triangle between two rates.

    Args:
        low, high: learning rates at the ends.
        half_steps: steps from one to the other.

    Reference:
        Smith 2017, https://arxiv.org/abs/1506.01186, figure 2.
    """

    def __init__(self, low: float, high: float, half_steps: int) -> None:
        self.low, self.high, self.half_steps = low, high, half_steps

    def __call__(self, step):
        """The rate at `step`, a float32 scalar."""
        position = keras.ops.cast(step, "float32") / self.half_steps
        height = 1 - keras.ops.abs(keras.ops.mod(position, 2.0) - 1)
        return self.low + (self.high - self.low) * height

    def get_config(self) -> dict:
        """Settings that build the same schedule again."""
        return {"low": self.low, "high": self.high, "half_steps": self.half_steps}


@keras.saving.register_keras_serializable(package="twinlens")
class Later(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule, without its first steps.

    Args:
        schedule: of a whole training.
        first_step: where this one enters.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        first_step: int,
    ) -> None:
        self.schedule, self.first_step = schedule, first_step

    def __call__(self, step):
        """The rate at `step`, a float32 scalar."""
        return self.schedule(step + self.first_step)

    def get_config(self) -> dict:
        """Settings that build the same schedule again."""
        return {"schedule": self.schedule, "first_step": self.first_step}


def count_weights(heads: Heads) -> int:
    """Numbers that train."""
    return int(sum(np.prod(weight.shape) for weight in heads.trainable_weights))
