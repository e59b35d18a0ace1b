"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

LINE_EVERY_SECONDS = 10.0  # between plain lines, so that a log file stays readable
SILENT_SECONDS = 2.0  # what is done sooner needs no progress


class Progress:
    """Shows how far a job is, how fast it goes and how long it will take.

    Args:
        what: the job in words, for example `"encoding pictures"`.
        total: how many units the whole job has.
        unit: the unit in the plural, for example `"pictures"`.
        done: units that were done before (a resumed job); they do not count
            towards the rate.

    Example:
        ```python
        with Progress("encoding pictures", total=7000, unit="pictures") as progress:
            progress.advance(32)
        ```
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.started_at, self.done = done, done
        self.note = ""
        self.console = Console(stderr=True)
        self._bar: RichProgress | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._last_line = self._start - LINE_EVERY_SECONDS + SILENT_SECONDS
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and time.monotonic() - self._start >= SILENT_SECONDS:
            self._print_line()

    def advance(self, units: int = 1, note: str = "") -> None:
        """Adds finished units; `note` is shown behind the numbers."""
        self.done += units
        self.note = note or self.note
        if self.console.is_terminal:
            self._draw_bar()
        elif self.done >= self.total:
            return  # the last line comes at the end
        elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            self._print_line()

    def text(self) -> str:
        """The state in one line: done, rate, time left, note."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (self.done - self.started_at) / seconds
        left = (self.total - self.done) / rate if rate else float("inf")
        parts = [
            f"{self.done:,} of {self.total:,} {self.unit}",
            f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s",
            f"{duration(left)} left" if self.done < self.total else duration(seconds),
            self.note,
        ]
        return " · ".join(part for part in parts if part)

    def _print_line(self) -> None:
        line = f"{self.what}: {self.text()}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw_bar(self) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                "{task.fields[text]}",
            )
            self._bar = RichProgress(*columns, console=self.console)
            self._task = self._bar.add_task(self.what, total=self.total, text="")
            self._bar.start()
        self._bar.update(
            self._task, total=self.total, completed=self.done, text=self.text()
        )


def duration(seconds: float) -> str:
    """Seconds in words a person reads: `48 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds == float("inf"):
        return "unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
