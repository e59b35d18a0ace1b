"""How long a person waits: `--help`, the first line of training, a first answer.

`python -m experiments.benchmarks.start`. Whole commands, from the shell to the line,
on the built-in scenes: a small run is trained and indexed in a temporary folder first.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.benchmarks.rows import Row, command, measured

ROOT = Path(__file__).parents[2]
DOORS = ("train", "search", "index", "evaluate")


def rows(rounds: int = 5, pictures: int = 600) -> Iterator[Row]:
    """Repeats each command `rounds` times."""
    for door in DOORS:
        times = [seconds(["-m", f"src.{door}", "--help"]) for _ in range(rounds)]
        yield measured(f"`{door} --help`", times, 1.0, "s")
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            *("--set", f"runs={folder}/runs"),
            *("--set", f"cache.path={folder}/features"),
            *("--set", f"data.path={folder}/scenes"),
            *("--set", f"data.max_images={pictures}"),
            *("--set", "phase1.epochs=1"),
        ]
        train = ["-m", "src.train", "--phase", "1", *settings]
        run = f"{folder}/runs/scenes-phase1"
        seconds(train)
        seconds(["-m", "src.index", "--run", run])
        again = [*train, "--name", "again"]
        times = [first_line(again) for _ in range(rounds)]
        yield measured("first line of training", times, 8.0, "s")
        search = ["-m", "src.search", run, "a red circle"]
        times = [seconds(search) for _ in range(rounds)]
        yield measured("first answer of search", times, 6.0, "s")


def seconds(arguments: list[str]) -> float:
    """Of a whole command.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def first_line(arguments: list[str]) -> float:
    """Seconds until a command prints something; it is stopped then.

    Raises:
        RuntimeError: it ends without a line.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-u", *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        line = process.stdout.readline()
        took = time.perf_counter() - start
        process.kill()
    if not line:
        raise RuntimeError(f"{' '.join(arguments)} printed nothing.")
    return took


def environment() -> dict[str, str]:
    """Of a command: as a person's, with this clone's code."""
    return os.environ | {"PYTHONPATH": str(ROOT / "src")}


if __name__ == "__main__":
    command(rows)
