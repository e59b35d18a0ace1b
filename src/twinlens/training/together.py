"""Many trainings on the same features at once, on programs compiled once.

Each processor trains one run at a time, from its start to its end, with the compiled
step that it used for the run before: only the numbers in it differ, see `numbers`. A
leading axis over runs would make one step of all of them, but on a CPU their weights
and activations then leave the cache: 32 default heads took 1.3 times as long as one by
one. Runs beside each other also keep both processors busy where a single step of
milliseconds cannot.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self, TypeVar

from twinlens.progress import Progress
from twinlens.training.loop import HeadTrainer

Result = TypeVar("Result")
Programs = dict[str, HeadTrainer]


@dataclass(frozen=True)
class Job:
    """One training among others.

    Attributes:
        key: of `program_key`; jobs of one key share a program.
        train: takes the programs so far and what shows the progress, see
            `HeadTraining`, and returns what it found.
    """

    key: str
    train: Callable[[Programs, Callable[..., Progress]], Result]


def train_together(jobs: Sequence[Job], unit: str) -> list[Result]:
    """Runs all jobs, as many at once as there are processors.

    Args:
        jobs: on the same features.
        unit: of their progress, in the plural.

    Returns:
        What each job returned, in the order of `jobs`.

    Raises:
        Exception: the first that a job raised. The other ones stop after their epoch.
    """
    queue, results = Queue(jobs), {}
    progress = SharedProgress("training the heads", len(jobs), unit)

    def work() -> None:
        programs: Programs = {}
        while (number := queue.take(programs)) is not None:
            results[number] = jobs[number].train(programs, progress.part)
            progress.ended()

    count = min(len(jobs), len(os.sched_getaffinity(0)))
    with progress.progress, ThreadPoolExecutor(count) as pool:
        workers = [pool.submit(work) for _ in range(count)]
        try:
            wait(workers, return_when=FIRST_EXCEPTION)
            for each in workers:
                if each.done():
                    each.result()
        except BaseException:
            queue.stop()
            progress.stop()
            raise
    return [results[number] for number in range(len(jobs))]


class Queue:
    """Which job a worker takes next: one that its programs fit, where there is one."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = {number: job.key for number, job in enumerate(jobs)}
        self._lock, self._taken = threading.Lock(), Counter()

    def take(self, programs: Programs) -> int | None:
        """The number of a job that nobody took; `None` where there is none.

        A worker without a fitting program goes where most is left for each worker.
        """
        with self._lock:
            fitting = [n for n, key in self._left.items() if key in programs]
            if not fitting and self._left:
                counts = Counter(self._left.values())
                taken = self._taken
                most = max(
                    counts, key=lambda k: (counts[k] / (1 + taken[k]), -taken[k])
                )
                self._taken[most] += 1
                fitting = [n for n, key in self._left.items() if key == most]
            if not fitting:
                return None
            del self._left[fitting[0]]
            return fitting[0]

    def stop(self) -> None:
        """Leaves nothing to take."""
        with self._lock:
            self._left.clear()


class SharedProgress:
    """One progress of several trainings at once.

    Args:
        what, unit: see `Progress`.
        jobs: how many trainings; those that have not begun are taken to be as long as
            the others.
    """

    def __init__(self, what: str, jobs: int, unit: str) -> None:
        self.progress = Progress(what, 1, unit)
        self.jobs, self.begun, self.known = jobs, 0, 0
        self.over, self.skipped = 0, 0  # ended; of these, trained before
        self.lock, self.stopped = threading.Lock(), False

    def part(self, what: str, total: int, unit: str, done: int = 0) -> "Part":
        """Takes the place of the progress of one training."""
        with self.lock:
            self.begun, self.known = self.begun + 1, self.known + total
            self.progress.started_at += done
        part = Part(self, total)
        if done:
            part.advance(done)
        return part

    def stop(self) -> None:
        """Interrupts every training at its next sign of progress."""
        self.stopped = True

    def ended(self) -> None:
        """A training is over, or was before: then it has taken no place here."""
        with self.lock:
            self.over += 1
            self.skipped = max(self.skipped, self.over - self.begun)

    def advance(self, units: int, less: int, note: str) -> None:
        """Adds finished units, and leaves away some that will not be needed."""
        with self.lock:
            self.known -= less
            self.progress.total = self.known * (self.jobs - self.skipped) // self.begun
            words = f"run {self.begun} of {self.jobs} · {note}" if note else ""
            self.progress.advance(units, words)


class Part:
    """The progress of one of several trainings."""

    def __init__(self, shared: SharedProgress, total: int) -> None:
        self.shared, self.total, self.done = shared, total, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if kind is None:  # it may have stopped early
            self.shared.advance(0, self.total - self.done, "")

    def advance(self, units: int, note: str = "") -> None:
        """Adds finished units; see `Progress.advance`.

        Raises:
            KeyboardInterrupt: the trainings are to stop.
        """
        if self.shared.stopped:
            raise KeyboardInterrupt
        self.done += units
        self.shared.advance(units, 0, note)
