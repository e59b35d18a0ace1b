"""Training the heads on TensorFlow and on JAX: pairs a second, in alternating rounds.

`python -m experiments.benchmarks.jax_heads`. Keras has one backend a process, so each
backend has a process of its own, which trains the same epochs when it is told to; the
other one waits. The default heads, symmetric InfoNCE, AdamW, 16,384 pairs of features
in memory (2,048 numbers a picture, 768 a caption). JAX takes an accelerator where there
is one, and so does TensorFlow.
"""

import os
import statistics
import subprocess
import sys
from functools import partial

import typer
from experiments.benchmarks.rounds import alternate, rate, ratios

IMAGE_DIM, TEXT_DIM, PAIRS = 2048, 768, 16384
BACKENDS = ("tensorflow", "jax")
BATCHES = (256, 1024)


class Trainer:
    """A process in which Keras runs on one backend."""

    def __init__(self, backend: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--serve"],
            env={**os.environ, "KERAS_BACKEND": backend},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.device = self.process.stdout.readline().strip()

    def train(self, batch_size: int) -> None:
        """One epoch; returns when it is over."""
        self.process.stdin.write(f"{batch_size}\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            raise RuntimeError("The training process ended; its error is above.")

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Names the device; then trains an epoch for each batch size on standard input."""
    from twinlens.quiet import import_tensorflow

    import_tensorflow()
    import keras
    import numpy as np

    from twinlens.config import HeadSettings, LossSettings, Phase1Settings
    from twinlens.training import HeadTrainer, PairFeatures
    from twinlens.training.build import build_heads, build_loss, build_optimizer
    from twinlens.training.pairs import epoch_order

    random, rows = np.random.default_rng(0), np.arange(PAIRS)
    images = random.normal(size=(PAIRS, IMAGE_DIM)).astype(np.float32)
    texts = random.normal(size=(PAIRS, TEXT_DIM)).astype(np.float32)
    pairs = PairFeatures(images, texts, rows, rows, np.arange(PAIRS + 1), rows)
    loss = build_loss(LossSettings())
    heads = build_heads(IMAGE_DIM, TEXT_DIM, HeadSettings(), loss, seed=0)
    trainer = HeadTrainer(heads, loss, build_optimizer(Phase1Settings(), 64))
    print(keras.distribution.list_devices()[0], flush=True)
    for number, line in enumerate(sys.stdin):
        trainer.run_epoch(pairs, epoch_order(pairs, int(line), 0, number))
        print("done", flush=True)


def main(rounds: int = 5, serve_: bool = typer.Option(False, "--serve")) -> None:
    """Prints one Markdown row a batch size."""
    if serve_:
        serve()
        return
    trainers = {name: Trainer(name) for name in BACKENDS}
    devices = ", ".join(f"{name} on {each.device}" for name, each in trainers.items())
    print(f"{devices}\n")
    print("| batch | TensorFlow, pairs/s | JAX, pairs/s | JAX / TensorFlow |")
    print("|---|---|---|---|")
    for size in BATCHES:
        seconds = alternate(
            {name: partial(each.train, size) for name, each in trainers.items()},
            rounds,
        )
        ours, jax = (rate(seconds[name], PAIRS) for name in BACKENDS)
        times = statistics.median(ratios(seconds["tensorflow"], seconds["jax"]))
        print(f"| {size} | {ours:,.0f} | {jax:,.0f} | {times:.2f} |", flush=True)
    for each in trainers.values():
        each.close()


if __name__ == "__main__":
    typer.run(main)
