"""One process of a training on replicas: `replica_job.py one|mirrored|workers OUT`.

Takes the same steps on the same pairs however many devices share them, and writes loss
and weights; run by `test_replicas.py`.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from twinlens.config import HeadSettings, Phase2Settings
from twinlens.encoders.pooling import MaskedMean
from twinlens.losses import InfoNCELoss, SupervisedContrastiveLoss
from twinlens.model import DualEncoder
from twinlens.training.build import build_heads, build_optimizer
from twinlens.training.finetune import FineTuner
from twinlens.training.parts import Part
from twinlens.training.raw import Batch
from twinlens.training.replicas import Replicas, find_replicas

BATCH, SIZE, LENGTH, WORDS = 8, 9, 5, 20


def replicas(kind: str) -> Replicas:
    """One device, two of this process, or one each of two processes."""
    if kind == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        return Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    return find_replicas()


def dual_encoder() -> DualEncoder:
    """Two small towers without dropout; that of the heads is the same everywhere."""
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3)(x)
    x = keras.activations.gelu(keras.layers.BatchNormalization(momentum=0.9)(x))
    image_model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    names = ("token_ids", "padding_mask", "segment_ids")
    tokens = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    words = keras.layers.Embedding(WORDS, 6)(tokens["token_ids"])
    pooled = MaskedMean()(keras.layers.Dense(6)(words), tokens["padding_mask"])
    text_model = keras.Model(tokens, pooled)
    heads = HeadSettings(embedding_dim=4, hidden_dim=8, dropout=0.2)
    return DualEncoder(
        image_model, text_model, build_heads(8, 6, heads, InfoNCELoss(), seed=0)
    )


def batch(number: int, worker: int, workers: int, labels: bool = False) -> Batch:
    """A machine's rows of batch `number`."""
    random = np.random.default_rng(number)
    pixels = random.uniform(0, 1, (BATCH, SIZE, SIZE, 3)).astype("float32")
    ids = random.integers(0, WORDS, (BATCH, LENGTH)).astype("int32")
    rows = np.s_[worker * BATCH // workers : (worker + 1) * BATCH // workers]
    whole = np.ones((BATCH, LENGTH), "int32")
    tokens = {"token_ids": ids, "padding_mask": whole, "segment_ids": 0 * whole}
    places = np.arange(BATCH) + number * BATCH
    columns = [places, places, *([places % 3] if labels else [])]
    pairs = np.stack(columns, axis=1).astype("int32")
    return Batch(
        tf.constant(pixels[rows]),
        {name: tf.constant(values[rows]) for name, values in tokens.items()},
        tf.constant(pairs[rows]),
    )


def steps(name: str, spread: Replicas) -> dict[str, np.ndarray]:
    """A plain step; with SGD, which shows a gradient's size, one of two batches too.

    `labels` is a plain step of SGD with the loss that has labels.
    """
    with spread.strategy.scope():
        model = dual_encoder()
        optimizer = SummedSGD(0.5)
        if name == "adamw":
            optimizer = build_optimizer(Phase2Settings(schedule="constant"), 10)
        part = Part("all", model.trainable_weights, optimizer)
        loss = SupervisedContrastiveLoss() if name == "labels" else InfoNCELoss()
        tuner = FineTuner(model, loss, [part], 1.0, 0.5, replicas=spread)
    place = (spread.worker, spread.workers, loss.needs_labels)
    one, two, three = (batch(i, *place) for i in range(3))
    losses = [tuner.step(lambda: [one], 1)]
    if name == "sgd":
        losses.append(tuner.step(lambda: [two, three], 2))
    found = {str(i): v.numpy() for i, v in enumerate(tuner.state())}
    return {f"{name} {key}": value for key, value in {"loss": losses, **found}.items()}


def main(kind: str, out: str) -> None:
    """All of it, to a file."""
    spread = replicas(kind)
    found = steps("sgd", spread) | steps("adamw", spread) | steps("labels", spread)
    found["chief"] = spread.from_chief([spread.worker, "ö", None] * 3)[:2]
    np.savez(out, **found)


class SummedSGD(keras.optimizers.SGD):
    """For gradients that are summed over replicas already."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


if __name__ == "__main__":
    main(*sys.argv[1:])
