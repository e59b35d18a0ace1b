"""The course of phase 2: epochs on raw pictures, checkpoints, the best weights."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from twinlens.composed import ComposedHeads
from twinlens.config import Config
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.errors import InputError
from twinlens.model import DualEncoder, Heads
from twinlens.progress import Progress
from twinlens.training import diagnosis
from twinlens.training.build import build_loss
from twinlens.training.checkpoint import load_checkpoint, save_checkpoint
from twinlens.training.raw import RawPairs
from twinlens.training.raw_jobs import raw_job_of
from twinlens.training.raw_triplets import RawTriplets
from twinlens.training.replicas import Replicas
from twinlens.training.selection import Selection
from twinlens.training.set_up import (
    batches_a_step,
    build_tuner,
    trains_normalisation,
)

CHECKPOINT_EVERY_SECONDS = 120.0  # what a kill can cost at most
STATISTICS_BATCHES = 15  # 0.9 ** 15 = 20 % is left of those of the last steps


class FineTuning:
    """Fine-tunes encoders and heads on the pairs or triplets of a split.

    Args:
        train, val: what to learn from and to watch; `val=None` never looks.
        image_encoder, text_encoder: where they start.
        heads: of phase 1; they are changed.
        config: all settings.
        folder: where the checkpoint is kept; `None` keeps none.
        say: shows a line to the person.
        replicas: which share every batch; encoders and heads were made in the scope
            of their strategy.
    """

    def __init__(
        self,
        train: RawPairs | RawTriplets,
        val: RawPairs | RawTriplets | None,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        heads: Heads | ComposedHeads,
        config: Config,
        folder: Path | None = None,
        say: Callable[[str], None] = print,
        replicas: Replicas | None = None,
    ) -> None:
        self.train, self.val, self.config = train, val, config
        self.settings = settings = config.phase2
        self._normalises = trains_normalisation(image_encoder, settings)
        self.say, self.warn = say, diagnosis.Warnings(say)
        self.path = folder / "checkpoint.npz" if folder else None
        self.model = DualEncoder(image_encoder.model, text_encoder.model, heads)
        self.loss = build_loss(config.loss, isinstance(heads, ComposedHeads))
        self.replicas = replicas = replicas or Replicas()
        replicas.check(settings.batch_size)
        self._chunks = batches_a_step(settings.batch_size, settings.negatives)
        self.step_pairs = settings.batch_size * self._chunks
        encoders = (image_encoder, text_encoder)
        self.job = raw_job_of(train, val, self.model, encoders, config, replicas)
        self.batches = self.job.batches
        self.steps = len(self.job.order(0).pictures) // self._chunks
        few = self.batches(self.job.order(0), 0, 0, STATISTICS_BATCHES)
        with replicas.strategy.scope():
            self.tuner = build_tuner(
                self.model, encoders, self.loss, config, self.steps, few, replicas
            )
        self.selection = Selection(settings, "phase2")
        self.warn(diagnosis.check_negatives(self.step_pairs))
        self.history: list[dict[str, Any]] = []
        self.start: dict[str, float] = {}
        self.step, self._loss_sum = 0, 0.0

    def run(self, on_epoch: Callable[[list[dict[str, Any]]], None]) -> DualEncoder:
        """Fine-tunes to the end, from the checkpoint if there is one.

        `on_epoch` gets the history after each epoch.
        """
        self._resume()
        if self.val is not None and not self.start:
            self.start = self._evaluate()
        while len(self.history) < self.settings.epochs:
            if self.selection.should_stop(self.history):
                break
            try:
                self._one_epoch()
            except KeyboardInterrupt:  # perhaps in a step: what is saved is whole
                raise KeyboardInterrupt(self._interrupted()) from None
            on_epoch(self.history)
            self.save()
        self._finish()
        return self.model

    def save(self) -> None:
        """Writes the checkpoint, if there is a folder for it."""
        if self.path is None or not self.replicas.is_chief:
            return
        progress = {
            "history": self.history,
            "start": self.start,
            "best_epoch": self.selection.best_epoch,
            "step": self.step,
            "loss_sum": self._loss_sum,
        }
        save_checkpoint(self.path, self.tuner.state(), self.selection.best, progress)
        self._saved_at = time.monotonic()

    def forget(self) -> None:
        """Removes the checkpoint, once the model is safe elsewhere."""
        if self.path is not None and self.replicas.is_chief:
            self.path.unlink(missing_ok=True)

    # === Set-up ===
    def _resume(self) -> None:
        found = load_checkpoint(self.path, self.tuner.state()) if self.path else None
        if found:
            self.selection.best, progress = found
            self.selection.best_epoch = progress["best_epoch"]
            self.history, self.start = progress["history"], progress["start"]
            self.step, self._loss_sum = progress["step"], progress["loss_sum"]
        self._saved_at = time.monotonic()
        mine = [len(self.history), self.step]
        chiefs = self.replicas.from_chief(mine)
        if mine != chiefs:
            raise InputError(
                f"Machine {self.replicas.worker} stands at epoch and step {mine}, the "
                f"first machine at {chiefs}. All machines have to see the same folder "
                f"{self.path.parent if self.path else ''}: share it, or copy it."
            )

    # === An epoch ===
    def _one_epoch(self) -> None:
        number, begun = len(self.history), time.monotonic()
        first = self.step
        self.tuner.begin_epoch(number)
        self._steps_of(number)
        seconds = time.monotonic() - begun
        row: dict[str, Any] = {
            "epoch": number + 1,
            "loss": self._loss_sum / self.steps,
            "scale": float(self.model.heads.similarity.scale()),
            "learning_rate": float(self.tuner.parts[-1].optimizer.learning_rate),
            "pairs_per_second": (self.steps - first) * self.step_pairs / seconds,
        }
        if self.val is not None and self.selection.is_due(number):
            row |= {
                f"val/{name}": value for name, value in self._evaluate(number).items()
            }
        self.history.append(row)
        self.step, self._loss_sum = 0, 0.0
        self.selection.consider(self.history, self._weights)
        self._diagnose()

    def _steps_of(self, number: int) -> None:
        order, data = self.job.order(number), None
        if self._chunks == 1:  # a cached step reads its own batches, twice
            data = iter(self.batches(order, number, self.step, self.steps))
        what = f"fine-tuning, epoch {number + 1} of {self.settings.epochs}"
        total, done = (n * self.step_pairs for n in (self.steps, self.step))
        with Progress(what, total, self.job.unit, done) as progress:
            while self.step < self.steps:
                loss = self._one_step(order, number, data)
                self._loss_sum += loss
                self.step += 1
                self.warn(diagnosis.check_gradients(*self.tuner.norms, self.settings))
                progress.advance(self.step_pairs, f"loss {loss:.3f}")
                if time.monotonic() - self._saved_at > CHECKPOINT_EVERY_SECONDS:
                    self.save()

    def _one_step(self, order, number: int, data) -> float:
        """One step on the next batches; those of a cached step are read twice."""
        first, chunks = self.step * self._chunks, self._chunks
        try:
            if chunks == 1:
                loss = self.tuner.step(lambda: [next(data)], 1)
            else:
                part = (order, number, first, first + chunks)
                loss = self.tuner.step(lambda: self.batches(*part), chunks)
        except tf.errors.OpError as error:
            if self.replicas.has_lost(error):
                raise
            raise InputError(
                f"A picture could not be read in epoch {number + 1}, step "
                f"{self.step + 1}: {error.message.splitlines()[0]} The last checkpoint "
                "is kept: put the picture back and give the same command again."
            ) from None
        if not np.isfinite(loss):
            pictures = order.pictures[first : first + chunks].ravel()
            names = ", ".join(map(str, self.train.image_ids[pictures]))
            raise InputError(
                f"The loss became {loss} in epoch {number + 1}, step {self.step + 1}, "
                f"on the pictures {names}. The last good checkpoint is kept. Lower "
                "phase2.learning_rate and the encoders' rates, or set phase2.clip_norm."
            )
        return loss

    # === Evaluation ===
    def _evaluate(self, number: int = -1) -> dict[str, float]:
        """Retrieval metrics on val, of the averaged weights if there are any."""
        if number >= 0:
            self._update_statistics(number)
        found = self._measured() if self.replicas.is_chief else None
        return self.replicas.from_chief(found)

    def _measured(self) -> dict[str, float]:
        with self.tuner.kept():
            *sides, found = self.job.evaluate()
        self.warn(diagnosis.check_embeddings(*sides, "phase2"))
        return found

    def _update_statistics(self, number: int) -> None:
        if self._normalises and self.settings.image_learning_rate:
            count = min(STATISTICS_BATCHES, self.steps * self._chunks)
            self.tuner.update_statistics(
                self.batches(self.job.order(number), number, 0, count)
            )

    def _weights(self) -> list[np.ndarray]:
        with self.tuner.kept():
            return [v.numpy() for v in self.model.variables]

    def _finish(self) -> None:
        """Leaves the chosen weights in the model."""
        if not self.selection.best:
            self.tuner.keep()
            return
        for variable, value in zip(
            self.model.variables, self.selection.best, strict=True
        ):
            variable.assign(value)

    def _diagnose(self) -> None:
        losses = [row["loss"] for row in self.history]
        chance = self.loss.chance_level(self.job.candidates(self.step_pairs))
        self.warn(diagnosis.check_loss(losses, chance, "phase2"))
        if self.start:
            row = self.history[-1]
            self.warn(diagnosis.check_destroyed(self.start, row, self.settings.epochs))

    def _interrupted(self) -> str:
        return (
            f"Interrupted in epoch {len(self.history) + 1} after {self.step} of "
            f"{self.steps} steps. The same command goes on from the last checkpoint."
        )
