"""Phase 2: encoders and heads learn together, from where phase 1 ended."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from twinlens.backend import need_tensorflow
from twinlens.config import Config
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.model import DualEncoder, Heads
from twinlens.runs import Run, changes, open_run
from twinlens.training.finetuning import FineTuning
from twinlens.training.phase1 import EpochLog, load_heads, open_keras
from twinlens.training.replicas import Replicas
from twinlens.writing import whole_file, writable

# With phase 1: what the heads were made of. How batches are filled may change.
SHARED = ("data.", "pair.", "image_encoder.", "text_encoder.", "head.", "fusion.")
OWN = ("fusion.together", "fusion.together_count")


def phase1_run(config: Config, source: str = "") -> Run:
    """The run that phase 2 goes on from.

    Args:
        config: settings of phase 2.
        source: a run's folder or name; by default the phase-1 run of the same name.

    Raises:
        InputError: there is none, or its encoders, heads or data are others.
    """
    folder = Path(config.runs) / f"{config.name}-phase1"
    if not source and not (folder / "config.toml").exists():
        raise InputError(
            f"Phase 2 goes on from phase 1, but there is no run in {folder}. Give the "
            "same command with --phase 1 first, or name another run with --from."
        )
    run = open_run(source or folder)
    if not run.heads_path.exists():
        raise InputError(
            f"{run.folder} is no phase-1 run (it has no {run.heads_path.name}). "
            "Name one with --from."
        )
    changed = changes(
        run, config, lambda name: name.startswith(SHARED) and name not in OWN
    )
    if changed:
        raise InputError(
            f"{run.folder} was trained with other settings, so its heads do not fit:\n"
            f"{changed}\nTake these settings, or train phase 1 with the ones you want."
        )
    return run


def train_phase2(
    config: Config,
    experiment: Experiment,
    run: Run,
    source: Run,
    say: Callable[[str], None] = print,
    replicas: Replicas | None = None,
) -> None:
    """Fine-tunes a run and leaves its model in the run's folder and in `models`.

    Args:
        config: all settings.
        experiment: the data; its encoders stay as they are.
        run: the folder; a training that was interrupted there goes on.
        source: the phase-1 run it starts from.
        say: shows a line to the person.
        replicas: which share every batch; the first machine writes.

    Raises:
        InputError: another machine has left.
    """
    replicas = replicas or Replicas()
    with replicas.telling_of_losses():
        _train(config, experiment, run, source, say, replicas)


def _train(
    config: Config,
    experiment: Experiment,
    run: Run,
    source: Run,
    say: Callable[[str], None],
    replicas: Replicas,
) -> None:
    begun = time.monotonic()
    val = "val" in set(experiment.table["split"])
    with replicas.strategy.scope():
        own = experiment.anew()
        encoders, heads = (own.image_encoder, own.text_encoder), load_heads(source)
    tuning = FineTuning(
        experiment.raw_pairs("train"),
        experiment.raw_pairs("val") if val else None,
        *encoders,
        heads,
        config,
        run.folder,
        say,
        replicas,
    )
    model = tuning.run(EpochLog(run) if replicas.is_chief else lambda history: None)
    if replicas.is_chief:
        _write(run, model, tuning, source, time.monotonic() - begun)
    replicas.from_chief(None)  # nobody leaves before the model is written


def _write(
    run: Run, model: DualEncoder, tuning: FineTuning, source: Run, seconds: float
) -> None:
    last = len(tuning.history) - 1
    best = tuning.selection.best_epoch
    run.write_json(
        "training.json",
        {
            "epochs": len(tuning.history),
            "kept_epoch": (best if best >= 0 else last) + 1,
            "seconds": round(seconds, 1),
            "pairs_per_second": tuning.history[-1]["pairs_per_second"],
            "from": str(source.folder),
            "start": tuning.start,
        },
    )
    models = Path(tuning.config.models)
    with writable(models):
        models.mkdir(parents=True, exist_ok=True)
    with whole_file(run.model_path) as path:  # its own name last: then all is done
        model.save(path)
        with whole_file(models / f"{tuning.config.name}.keras") as copy:
            shutil.copyfile(path, copy)
    tuning.forget()


def load_trained(run: Run) -> Heads | DualEncoder:
    """What a run trained: the heads of phase 1, or the whole model of phase 2."""
    if run.model_path.exists():
        return load_model(run.model_path)
    return load_heads(run)


def load_model(path: str | Path) -> DualEncoder:
    """A dual encoder from its `.keras` file; errors as of `open_keras`."""
    need_tensorflow("Fine-tuned models")
    import keras_hub  # noqa: F401 - registers the text encoder's layers

    return open_keras(Path(path))
