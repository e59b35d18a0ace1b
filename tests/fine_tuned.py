"""Phase 2 on the tiny data set: its command, and one that dies on the way."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import run

EXTRA = [
    "phase2.epochs=1",
    "phase2.batch_size=4",
    "phase2.image_learning_rate=0",  # quick to compile; test_finetune trains both
    "phase2.evaluate_every=1",
]


# Saves after every step and dies after the second.
PROGRAM = """
import os, signal

from twinlens.training import finetuning

finetuning.CHECKPOINT_EVERY_SECONDS = 0.0
save, calls = finetuning.FineTuning.save, []


def killed(self):
    save(self)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)


finetuning.FineTuning.save = killed
from twinlens.cli import main

main()
"""


def fine_tune(home, *more, settings=(), report=False):
    return run(*words(home, settings), *more, report=report)


def words(home, settings=()):
    overrides = [*home.settings, *EXTRA, f"models={home.folder / 'models'}", *settings]
    parts = (part for each in overrides for part in ("--set", each))
    return ["train", "--phase", "2", *parts]


@contextlib.contextmanager
def encoders_anew():
    """Inside, commands do not share the encoders that training changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiny._image_encoder", image_encoder_anew)
        patch.setattr("tiny._text_encoder", text_encoder_anew)
        yield


def image_encoder_anew(**settings):
    from twinlens.encoders import image_encoder

    return image_encoder(**settings)


def text_encoder_anew(corpus, **settings):
    from twinlens.encoders import text_encoder

    return text_encoder(corpus=corpus, **settings)


# === Processes of their own ===


def started(program, *arguments, **environment):
    """A Python program, run with this project's sources."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
            "CUDA_VISIBLE_DEVICES": "-1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cluster_of_two():
    """The environments of two machines that train together, here on loopback."""
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            )
        }
        for index in (0, 1)
    ]
