"""Which weights a training keeps, and when it has gone on long enough."""

from collections.abc import Callable
from typing import Any

import numpy as np

from twinlens.config import TrainingSettings
from twinlens.errors import InputError


class Selection:
    """Keeps the best weights by a metric on val.

    Args:
        settings: `select_by`, `checkpoint` and `patience` of a phase.
        phase: its name in the settings, for errors.

    Attributes:
        best: values of the best weights; empty where none are chosen.
        best_epoch: row of the history they belong to; -1 before there is one.
    """

    def __init__(self, settings: TrainingSettings, phase: str) -> None:
        self.settings, self.phase = settings, phase
        self.metric = f"val/{settings.select_by}"
        self.best: list[np.ndarray] = []
        self.best_epoch = -1

    def consider(
        self,
        history: list[dict[str, Any]],
        weights: Callable[[], list[np.ndarray]],
    ) -> None:
        """Takes the weights of the last row if none before were better.

        Raises:
            InputError: the metric is not measured.
        """
        row = history[-1]
        if self.settings.checkpoint == "last" or "val/recall_sum" not in row:
            return
        if self.metric not in row:
            names = ", ".join(name[4:] for name in row if name.startswith("val/"))
            raise InputError(
                f"{self.phase}.select_by is {self.settings.select_by!r}, which is not "
                f"measured. Measured: {names}."
            )
        before = history[self.best_epoch][self.metric] if self.best_epoch >= 0 else None
        sign = -1 if self.metric.endswith("_rank") else 1
        if before is None or sign * row[self.metric] > sign * before:
            self.best_epoch = len(history) - 1
            self.best = weights()

    def is_due(self, number: int) -> bool:
        """Whether epoch `number`, counted from 0, ends with an evaluation on val."""
        last = number + 1 == self.settings.epochs
        return last or (number + 1) % self.settings.evaluate_every == 0

    def should_stop(self, history: list[dict[str, Any]]) -> bool:
        """No gain for `patience` evaluations."""
        if self.best_epoch < 0:
            return False
        later = [row for row in history[self.best_epoch + 1 :] if self.metric in row]
        return len(later) >= self.settings.patience
