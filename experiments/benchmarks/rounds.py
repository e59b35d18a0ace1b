"""Two or more jobs timed in turn, so that all of them see the same machine."""

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

from twinlens.quiet import stderr_kept_back

Job = Callable[[], object]
Seconds = dict[str, list[float]]  # of each job in each round
CORES = len(os.sched_getaffinity(0))  # that this process may use
FEWEST = 2  # rounds, however long they take


def alternate(
    jobs: dict[str, Job], rounds: int, seconds: float = float("inf")
) -> Seconds:
    """Seconds of each job in each round, after one round that is not counted.

    Args:
        jobs: by name.
        rounds: at most so many.
        seconds: no further round begins after so many; two are always measured.
    """
    timed = {name: lambda job=job: _time_of(job) for name, job in jobs.items()}
    return _in_turn(timed, rounds, seconds)


def alternate_apart(
    makers: dict[str, Callable[[], Job]], rounds: int, seconds: float = float("inf")
) -> Seconds:
    """The same with a process for each job: libraries that share one hinder another.

    Args:
        makers: make each job, in its own process, where no time is taken yet; they
            must be found by name (`functools.partial` of a function of a module).
        rounds: at most so many.
        seconds: as for `alternate`.
    """
    with contextlib.ExitStack() as stack:
        timed = {name: stack.enter_context(_process(m)) for name, m in makers.items()}
        return _in_turn(timed, rounds, seconds)


def ratios(slower: list[float], faster: list[float]) -> list[float]:
    """How many times faster the second is, in each round."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def rate(seconds: list[float], units: int) -> float:
    """Units a second, of the median round."""
    return units / statistics.median(seconds)


def _in_turn(
    timed: dict[str, Callable[[], float]], rounds: int, limit: float
) -> Seconds:
    found: Seconds = {name: [] for name in timed}
    for run in timed.values():
        run()
    start = time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST and time.perf_counter() - start > limit:
            break
        for name, run in timed.items():
            found[name].append(run())
    return found


def _time_of(job: Job) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


# === In a process of its own ===

_job: Job | None = None


def _make(maker: Callable[[], Job]) -> None:
    global _job
    with stderr_kept_back():  # TensorFlow's first lines
        _job = maker()


def _run() -> float:
    return _time_of(_job)


@contextlib.contextmanager
def _process(maker: Callable[[], Job]) -> Iterator[Callable[[], float]]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        pool.submit(_make, maker).result()
        yield lambda: pool.submit(_run).result()
