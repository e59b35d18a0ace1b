"""The service as its own process, as people start it."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[1]
START_SECONDS = 120  # on a busy machine; it takes 10 on an idle one


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextlib.contextmanager
def serving(index: Path, run: Path, ratings: Path) -> Iterator[SimpleNamespace]:
    """`python -m src.serve` until the end of the block: `address`, `ratings`."""
    port = free_port()
    options = ["--run", run, "--port", port, "--ratings", ratings]
    command = [sys.executable, "-m", "src.serve", index, *options]
    log = ratings.with_suffix(".log")
    with open(log, "w") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r"Ready .*?(http\S+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield SimpleNamespace(
            address=found[1], ratings=ratings, process=process, log=log
        )
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
