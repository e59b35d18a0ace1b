"""Ten steps of the tiny run's heads: `jax_job.py RUN HEADS OUT`, on any backend.

Starts from the weights in `HEADS`, or leaves its own there; trains on the features
that the run has left, and writes the losses and the last weights. Run by
`test_backends.py`.
"""

import sys
from pathlib import Path

from twinlens.quiet import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402

from twinlens.config import override  # noqa: E402
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.runs import Run  # noqa: E402
from twinlens.training import HeadTraining  # noqa: E402

STEPS = ["phase1.batch_size=12", "phase1.epochs=10", "phase1.checkpoint=last"]


def ten_steps(run: Path, heads: Path) -> dict[str, np.ndarray]:
    """Of all training pictures each, with dropout and a moving average."""
    config = override(Run(run).config, STEPS)
    training = HeadTraining(Experiment(config).pairs("train"), None, config)
    if not heads.exists():
        training.heads.save(heads)
    start = keras.saving.load_model(heads, compile=False)
    for variable, value in zip(training.heads.variables, start.variables, strict=True):
        variable.assign(value)
    weights, averages = training.heads.trainable_variables, training.trainer.averages
    for weight, average in zip(weights, averages, strict=True):
        average.assign(weight)
    found = training.run(lambda history: None)
    arrays = {str(i): each.numpy() for i, each in enumerate(found.variables)}
    losses = [row["loss"] for row in training.history]
    return {"losses": np.array(losses), "backend": keras.backend.backend(), **arrays}


if __name__ == "__main__":
    run_, heads_, out = sys.argv[1:]
    np.savez(out, **ten_steps(Path(run_), Path(heads_)))
