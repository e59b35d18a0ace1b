"""Thirty-two runs of the heads: together beside one after another, in one process.

`python -m experiments.benchmarks.sweep`, with nothing else on the machine. The runs are
those of `experiments/heads.toml` on the built-in scenes, whose features are made first
where they are missing: eight settings, four seeds, validation in every epoch, the run
folder and the evaluation on test included. Both ways must leave the same metrics. The
data and the encoders are there before the clock starts; `--apart` also starts a process
for one run and one for the whole sweep, as a person at the command line would.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer

FILE = Path(__file__).parents[1] / "heads.toml"


def configs_of(runs: str, settings: list[str]) -> list:
    """The settings of every run, in the order of the sweep."""
    from twinlens.commands import seeded
    from twinlens.sweep import combinations, read_sweep

    sweep = read_sweep(FILE)
    found = combinations(sweep, FILE, [*settings, f"runs={runs!r}"])
    return [seeded(each, seed) for _, each in found for seed in range(sweep.seeds)]


def timed(together: bool, settings: list[str]) -> tuple[float, int, list[float]]:
    """Seconds, how many runs, and the recall of each."""
    from twinlens.commands import train_all_heads, train_heads
    from twinlens.composed_experiment import open_experiment

    with tempfile.TemporaryDirectory() as runs:
        configs = configs_of(runs, settings)
        experiment = open_experiment(configs[0])
        experiment.pairs("train")
        start = time.perf_counter()
        if together:
            found = train_all_heads(experiment, configs, restart=False)
        else:
            found = [train_heads(experiment, each, restart=False) for each in configs]
        seconds = time.perf_counter() - start
    recalls = [each.metric("text_to_image/recall@1") for _, each in found]
    return seconds, len(configs), recalls


def command(*arguments: str) -> float:
    """Seconds of a command in a process of its own, with an empty folder of runs."""
    with tempfile.TemporaryDirectory() as runs:
        start = time.perf_counter()
        whole = [sys.executable, "-m", *arguments, "--set", f"runs={runs!r}"]
        subprocess.run(whole, check=True, capture_output=True)
        return time.perf_counter() - start


def main(apart: bool = False, set_: list[str] = typer.Option([], "--set")) -> None:  # noqa: B008
    """Prints seconds and the ratio; `--set` overrides settings of all runs."""
    apart_seconds, count, alone = timed(False, set_)
    seconds, _, together = timed(True, set_)
    print(f"{count} runs, one after another: {apart_seconds:.1f} s")
    print(f"{count} runs, together: {seconds:.1f} s")
    print(f"ratio: {apart_seconds / seconds:.2f}")
    print(f"largest difference in recall@1: {largest(alone, together):.4f}")
    if apart:
        more = [part for each in set_ for part in ("--set", each)]
        sweep = command("src.sweep", str(FILE), *more)
        train = ["src.train", "--phase", "1", "--set", "phase1.epochs=40"]
        one = command(*train, *more)
        print(f"the whole sweep as a command: {sweep:.1f} s")
        print(f"a command for each run, {one:.1f} s: {one * count / sweep:.2f} times")


def largest(a: list[float], b: list[float]) -> float:
    """The largest absolute difference."""
    return max(abs(one - other) for one, other in zip(a, b, strict=True))


if __name__ == "__main__":
    typer.run(main)
