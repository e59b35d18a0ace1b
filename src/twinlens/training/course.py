"""The course of a training of heads: epochs, best weights, checkpoints, warnings."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.composed import ComposedHeads
from twinlens.config import Config
from twinlens.model import Heads
from twinlens.progress import Progress
from twinlens.training import diagnosis
from twinlens.training.build import build_optimizer
from twinlens.training.checkpoint import load_checkpoint, save_checkpoint
from twinlens.training.jobs import Job, job_of
from twinlens.training.loop import HeadTrainer
from twinlens.training.numbers import program_key
from twinlens.training.pairs import PairFeatures
from twinlens.training.selection import Selection
from twinlens.training.triplets import TripletFeatures

CHECKPOINT_EVERY_SECONDS = 20.0  # what a kill can cost at most, plus one epoch


class HeadTraining:
    """Trains heads on the pairs or triplets of a split and watches them on another.

    Args:
        train, val: what to learn from and to watch; `val=None` never looks.
        config: all settings.
        folder: where the checkpoint is kept; `None` keeps none.
        say: shows a line to the person.
        programs: compiled before, by `program_key`, and used again where one fits; a
            new one is added.
    """

    def __init__(
        self,
        train: PairFeatures | TripletFeatures,
        val: PairFeatures | TripletFeatures | None,
        config: Config,
        folder: Path | None = None,
        say: Callable[[str], None] = print,
        programs: dict[str, HeadTrainer] | None = None,
    ) -> None:
        self.train, self.val, self.config = train, val, config
        self.settings = config.phase1
        self.path = folder / "checkpoint.npz" if folder else None
        self.job = job_of(train, val, config)
        self.heads, self.loss = self.job.heads, self.job.loss
        self.steps = len(self.job.order(0).pictures)
        self.epoch_pairs = self.steps * self.settings.batch_size
        self.trainer = self._trainer_of(self.job)
        if programs is not None:
            key = program_key(config, self.steps)
            if key not in programs:
                programs[key] = self._trainer_of(job_of(train, None, config))
            self.trainer.work_with(programs[key])
        self.history: list[dict[str, float]] = []
        self.selection = Selection(self.settings, "phase1")
        self.warn = diagnosis.Warnings(say)

    def run(
        self,
        on_epoch: Callable[[list[dict[str, float]]], None],
        shown_by: Callable[..., Progress] = Progress,
    ) -> Heads | ComposedHeads:
        """Trains to the end, from the checkpoint if there is one.

        An interruption (Ctrl-C) goes back to the last checkpoint.

        Args:
            on_epoch: gets the history after each epoch.
            shown_by: makes the progress that a person sees.
        """
        self._start()
        saved = time.monotonic()
        epochs = self.settings.epochs
        total, done = epochs * self.epoch_pairs, len(self.history) * self.epoch_pairs
        with shown_by("training the heads", total, self.job.unit, done) as progress:
            while len(self.history) < epochs and not self.selection.should_stop(
                self.history
            ):
                try:
                    self._one_epoch(progress.advance)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(self._interrupted()) from None
                on_epoch(self.history)
                done = len(self.history) * self.epoch_pairs
                progress.advance(done - progress.done, self._note())
                if time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
                    self.save()
                    saved = time.monotonic()
        self.save()
        self._finish()
        return self.heads

    def save(self) -> None:
        """Writes the checkpoint, if there is a folder for it."""
        if self.path is not None:
            chosen = self.selection
            progress = {"history": self.history, "best_epoch": chosen.best_epoch}
            save_checkpoint(self.path, self.trainer.state(), chosen.best, progress)

    def forget(self) -> None:
        """Removes the checkpoint, once the heads are safe elsewhere."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _trainer_of(self, job: Job) -> HeadTrainer:
        optimizer = build_optimizer(self.settings, self.steps)
        return HeadTrainer(job.heads, job.loss, optimizer, self.settings.ema_decay)

    def _start(self) -> None:
        self.job.adapt()
        found = load_checkpoint(self.path, self.trainer.state()) if self.path else None
        if found:
            self.selection.best, progress = found
            self.selection.best_epoch = progress["best_epoch"]
            self.history = progress["history"]

    def _one_epoch(self, on_pairs: Callable[[int], None] = lambda count: None) -> None:
        start, number = time.monotonic(), len(self.history)
        order = self.job.order(number)
        loss = self.trainer.run_epoch(self.train, order, on_pairs)
        diagnosis.refuse_nan(loss, number)
        seconds = time.monotonic() - start
        row: dict[str, Any] = {
            "epoch": number + 1,
            "loss": loss,
            "scale": float(self.heads.similarity.scale()),
            "learning_rate": float(self.trainer.optimizer.learning_rate),
            "pairs_per_second": self.epoch_pairs / seconds,
        }
        if self.val is not None and self.selection.is_due(number):
            row |= {f"val/{name}": value for name, value in self._evaluate().items()}
        self.history.append(row)
        self.selection.consider(self.history, self._weights)
        losses = [entry["loss"] for entry in self.history]
        chance = self.loss.chance_level(self.job.candidates())
        self.warn(diagnosis.check_loss(losses, chance))

    def _evaluate(self) -> dict[str, float]:
        """Retrieval metrics on val, of the averaged weights if there are any."""
        self.trainer.swap_averages()
        *sides, found = self.job.evaluate()
        self.trainer.swap_averages()
        self.warn(diagnosis.check_embeddings(*sides))
        return found

    def _weights(self) -> list[np.ndarray]:
        """Values of the heads, averaged if there are averages."""
        self.trainer.swap_averages()
        values = [v.numpy() for v in self.heads.variables]
        self.trainer.swap_averages()
        return values

    def _finish(self) -> None:
        """Leaves the chosen weights in the heads."""
        best = self.selection.best
        if best:
            for variable, value in zip(self.heads.variables, best, strict=True):
                variable.assign(value)
        else:
            self.trainer.swap_averages()

    def _note(self) -> str:
        row = self.history[-1]
        epoch = f"epoch {row['epoch']} of {self.settings.epochs}"
        parts = [epoch, f"loss {row['loss']:.3f}"]
        name = f"val/{self.job.headline}"
        if name in row:
            words = name.replace("_", " ").replace("/", " ")
            parts.append(f"{words} {100 * row[name]:.1f} %")
        return " · ".join(parts)

    def _interrupted(self) -> str:
        """An epoch cut in two cannot be resumed exactly: the checkpoint before is."""
        return (
            f"Interrupted in epoch {len(self.history) + 1}. "
            "The same command goes on from the last checkpoint."
        )
