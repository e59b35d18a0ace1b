"""Two or more jobs timed in turn, so that all of them see the same machine."""

import statistics
import time
from collections.abc import Callable


def alternate(
    jobs: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each job in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slower: list[float], faster: list[float]) -> float:
    """Median over rounds of how many times faster the second is."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def rate(seconds: list[float], units: int) -> float:
    """Units a second, of the median round."""
    return units / statistics.median(seconds)
