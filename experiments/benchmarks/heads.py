"""Training the heads: pairs a second, ours beside PyTorch loops and Keras' `fit`.

`python -m experiments.benchmarks.heads`. The same heads (the first prototype's, 256
wide, and the default residual ones, 512 wide), the same symmetric InfoNCE, AdamW,
features in memory (2,048 numbers a picture, 768 a caption). Peers: an idiomatic PyTorch
loop that indexes tensors (batch 256 and 1,024), a DataLoader over a Dataset (batch 16,
the first prototype's batch), and Keras' own `fit` (batch 256). Each in a process of its
own, in turn.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Iterator
from functools import partial

import numpy as np
from experiments.benchmarks.rounds import Job, alternate_apart
from experiments.benchmarks.rows import Row, command, compared

IMAGE_DIM, TEXT_DIM, PICTURES = 2048, 768, 16384
FORMS = ("prototype", "residual")
PEERS = {  # batch size, peer, and the goal with the prototype's heads
    "PyTorch, indexed tensors, batch 256": (256, "indexed", 1.7),
    "PyTorch, indexed tensors, batch 1,024": (1024, "indexed", 1.7),
    "PyTorch, DataLoader, batch 16": (16, "loaded", 4.0),
    "Keras fit, batch 256": (256, "fit", 1.5),
}


def features() -> tuple[np.ndarray, np.ndarray]:
    """Random features of pictures and of as many captions."""
    random = np.random.default_rng(0)
    images = random.normal(size=(PICTURES, IMAGE_DIM)).astype(np.float32)
    return images, random.normal(size=(PICTURES, TEXT_DIM)).astype(np.float32)


def ours(form: str, batch_size: int, count: int) -> Job:
    """`count` pairs of an epoch."""
    from twinlens.config import HeadSettings, LossSettings, Phase1Settings
    from twinlens.training import HeadTrainer, PairFeatures
    from twinlens.training.build import build_heads, build_loss, build_optimizer
    from twinlens.training.pairs import Epoch, epoch_order

    rows = np.arange(PICTURES)
    pairs = PairFeatures(*features(), rows, rows, np.arange(PICTURES + 1), rows)
    loss = build_loss(LossSettings())
    heads = build_heads(IMAGE_DIM, TEXT_DIM, HeadSettings(form=form), loss, seed=0)
    trainer = HeadTrainer(heads, loss, build_optimizer(Phase1Settings(), 64))

    def train() -> None:
        whole = epoch_order(pairs, batch_size, seed=0, epoch=0)
        parts = (whole.pictures, whole.text_rows, whole.views)
        trainer.run_epoch(pairs, Epoch(*(p[: count // batch_size] for p in parts)))

    return train


def torch_loop(form: str, loop: str, batch_size: int, count: int) -> Job:
    """A loop in PyTorch, `"indexed"` or `"loaded"`."""
    from experiments.benchmarks.torch_heads import TorchTrainer

    trainer = TorchTrainer(*features(), form)
    return partial(getattr(trainer, loop), batch_size, count)


def keras_head(dim: int, embedding_dim: int = 256):
    """The first prototype's head of plain Keras layers."""
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((dim,)),
            layers.Dense(embedding_dim, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dense(embedding_dim),
            layers.Dropout(0.1),
            layers.LayerNormalization(),
            layers.UnitNormalization(),
        ]
    )


def keras_fit(batch_size: int, count: int) -> Job:
    """The prototype's heads as a Keras user trains them, with our loss."""
    import keras

    from twinlens.config import LossSettings
    from twinlens.heads import Similarity
    from twinlens.training.build import build_loss

    images, texts = (each[:count] for each in features())
    image, text = keras.Input((IMAGE_DIM,)), keras.Input((TEXT_DIM,))
    both = keras_head(IMAGE_DIM)(image), keras_head(TEXT_DIM)(text)
    model = keras.Model([image, text], Similarity()(*both))
    model.compile(keras.optimizers.AdamW(1e-3), build_loss(LossSettings()))
    ids = np.stack([np.arange(count)] * 2, axis=1)  # of pictures and of texts

    def fit() -> None:
        model.fit([images, texts], ids, batch_size=batch_size, verbose=0)

    return fit


def rows(rounds: int = 11) -> Iterator[Row]:
    """Compares an epoch on 16,384 pairs, or a quarter of it with small batches."""
    for form in FORMS:
        for peer, (batch_size, loop, reach) in PEERS.items():
            if loop == "fit" and form != "prototype":
                continue
            count = PICTURES if batch_size >= 256 else PICTURES // 4
            theirs = (
                partial(keras_fit, batch_size, count)
                if loop == "fit"
                else partial(torch_loop, form, loop, batch_size, count)
            )
            makers = {"ours": partial(ours, form, batch_size, count), "peer": theirs}
            seconds = alternate_apart(makers, rounds)
            goal = reach if form == "prototype" else None
            both = seconds["ours"], seconds["peer"]
            question = f"train heads of the form {form}"
            yield compared(question, peer, both, (count, "pairs"), goal)


if __name__ == "__main__":
    command(rows)
