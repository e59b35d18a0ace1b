"""Phase 1: the heads learn on features that were encoded once."""

import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from twinlens.config import Config
from twinlens.errors import InputError
from twinlens.model import Heads
from twinlens.progress import Progress
from twinlens.runs import Run
from twinlens.training.course import HeadTraining
from twinlens.training.loop import HeadTrainer
from twinlens.training.pairs import PairFeatures
from twinlens.writing import whole_file


def train_phase1(
    config: Config,
    run: Run,
    train: PairFeatures,
    val: PairFeatures | None,
    say: Callable[[str], None] = print,
    programs: dict[str, HeadTrainer] | None = None,
    shown_by: Callable[..., Progress] = Progress,
) -> Heads:
    """Trains the heads of a run and leaves them in its folder.

    Args:
        config: all settings.
        run: the folder; a training that was interrupted there goes on.
        train: pairs to learn from.
        val: pairs to watch; `None` watches none.
        say: shows a line to the person.
        programs: of runs before, to be used again; see `HeadTraining`.
        shown_by: makes the progress that a person sees.

    Returns:
        The trained heads, also in `run.heads_path`.
    """
    start = time.monotonic()
    training = HeadTraining(train, val, config, run.folder, say, programs)
    heads = training.run(EpochLog(run), shown_by)
    last = len(training.history) - 1
    chosen = training.selection.best_epoch
    best = chosen if chosen >= 0 else last
    run.write_json(
        "training.json",
        {
            "epochs": len(training.history),
            "kept_epoch": best + 1,
            "seconds": round(time.monotonic() - start, 1),
            "pairs_per_second": training.history[-1]["pairs_per_second"],
        },
    )
    with whole_file(run.heads_path) as path:
        heads.save(path)
    training.forget()
    return heads


class EpochLog:
    """Metrics and TensorBoard scalars; a resumed run writes them anew."""

    def __init__(self, run: Run) -> None:
        self.run, self.written = run, 0
        folder = run.folder / "tensorboard"
        for old in folder.glob("events*"):
            old.unlink()
        self.writer = tf.summary.create_file_writer(str(folder))

    def __call__(self, history: list[dict[str, float]]) -> None:
        """Writes the rows that were not written yet."""
        self.run.write_metrics(history)
        with self.writer.as_default():
            for row in history[self.written :]:
                for name, value in row.items():
                    tf.summary.scalar(name, value, step=int(row["epoch"]))
        self.writer.flush()
        self.written = len(history)


def load_heads(run: Run) -> Heads:
    """The trained heads of a run; errors as of `open_keras`."""
    return open_keras(run.heads_path)


def open_keras(path: Path) -> keras.Model:
    """The model in a `.keras` file. Code in the file is refused, not run.

    Raises:
        InputError: it is damaged, or needs what is not in twinlens and Keras.
    """
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except InputError:
        raise
    except Exception as error:  # zipfile, h5py and Keras raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path} cannot be loaded ({reason}). Copy it again from where it was "
            "trained, or train it anew with --restart."
        ) from error
