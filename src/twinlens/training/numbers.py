"""Settings that are plain numbers, given to a compiled step instead of built into it.

A program with the learning rate inside serves one run; one that is given it serves
every run of the same shape, and compiling takes as long as a third of a training.
"""

import contextlib
import json
from collections.abc import Iterator

import keras
import numpy as np

from twinlens.config import Config
from twinlens.heads import Dropout
from twinlens.losses import InfoNCELoss, SoftTargetLoss, TripletLoss
from twinlens.target_loss import TargetLoss
from twinlens.training.build import Cyclic, warmup_steps

OF_CLASSES: dict[type, tuple[str, ...]] = {
    Dropout: ("limit", "keep"),
    InfoNCELoss: ("label_smoothing",),
    TargetLoss: ("label_smoothing",),
    SoftTargetLoss: ("temperature",),
    TripletLoss: ("margin",),
    keras.optimizers.AdamW: ("weight_decay",),
    keras.optimizers.schedules.CosineDecay: (
        *("initial_learning_rate", "decay_steps", "alpha"),
        *("warmup_target", "warmup_steps"),
    ),
    Cyclic: ("low", "high", "half_steps"),
}
OF_SETTINGS = (  # the same as settings; temperatures start the similarity
    *("dropout", "input_dropout", "drop_image"),
    *("temperature", "label_smoothing", "margin"),
)
WHOLE = ("limit",)  # exact beyond what float32 holds


class Numbers:
    """The numbers in heads, a loss and an optimizer.

    One that is zero or absent stays as it is: the program leaves out what it is for.

    Args:
        heads, loss, optimizer: of one run.

    Attributes:
        values: of the run, in a fixed order; arguments of a compiled step.
    """

    def __init__(
        self,
        heads: keras.Model,
        loss: keras.losses.Loss,
        optimizer: keras.optimizers.Optimizer,
    ) -> None:
        rate = optimizer._learning_rate
        self._places = [
            (each, name)
            for each in (*heads._flatten_layers(), loss, optimizer, rate)
            for kind, names in OF_CLASSES.items()
            if isinstance(each, kind)
            for name in names
            if getattr(each, name)
        ]
        self.values = tuple(
            (np.uint32 if name in WHOLE else np.float32)(getattr(each, name))
            for each, name in self._places
        )

    @contextlib.contextmanager
    def given(self, values: tuple) -> Iterator[None]:
        """Inside, the objects hold other values, as a program that is traced does.

        Args:
            values: tensors, in the order of `values`.
        """
        own = [getattr(each, name) for each, name in self._places]
        try:
            self._put(values)
            yield
        finally:
            self._put(own)

    def _put(self, values) -> None:
        for (each, name), value in zip(self._places, values, strict=True):
            setattr(each, name, value)


def program_key(config: Config, steps_per_epoch: int) -> str:
    """Equal for runs on the same features that one compiled program can train.

    Seeds differ freely, and so do numbers, as long as the same ones are zero; whatever
    is no part of a step (epochs, patience, which weights are kept) does not count.

    Args:
        config: all settings.
        steps_per_epoch: updates.
    """
    phase1 = config.phase1
    shape = {
        "batch_size": phase1.batch_size,
        "schedule": phase1.schedule,
        "warmup": bool(warmup_steps(phase1, steps_per_epoch)),
        "weight_decay": bool(phase1.weight_decay),
        "ema_decay": bool(phase1.ema_decay),
    }
    for section in ("head", "loss", "fusion"):
        for name, value in getattr(config, section).model_dump().items():
            is_number = name in OF_SETTINGS
            shape[f"{section}.{name}"] = bool(value) if is_number else value
    return json.dumps(shape)
