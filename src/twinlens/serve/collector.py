"""Jobs that come together are done together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A job that knows its share of a batch."""

    size: int


Job = TypeVar("Job", bound=Sized)
Result = TypeVar("Result")


class Collector(Generic[Job, Result]):
    """Does many jobs in one call, as networks like it.

    One call runs at a time, in one thread. What comes in meanwhile waits, and then goes
    together into the next: a lone job never waits for company.

    Args:
        work: does some jobs; gives a result or an exception for each.
        limit: sizes of a call's jobs add up to no more, unless one alone does.
        seen: told how many jobs go into each call.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Result | Exception]],
        limit: int,
        seen: Callable[[int], None] = lambda jobs: None,
    ) -> None:
        self._work, self._limit, self._seen = work, limit, seen
        self._waiting: deque[tuple[Job, asyncio.Future]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._running: asyncio.Task | None = None

    async def do(self, job: Job) -> Result:
        """The result of a job; one that nobody waits for any more is left out."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    def afterwards(self, work: Callable[[], object]) -> None:
        """Does something in the same thread, behind the call that runs."""
        self._thread.submit(work)

    def close(self) -> None:
        """Ends the thread; what waits is not done."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._next_batch():
                jobs = [job for job, _ in batch]
                self._seen(len(jobs))
                results = await loop.run_in_executor(self._thread, self._done, jobs)
                for (_, future), result in zip(batch, results, strict=True):
                    _settle(future, result)
        finally:
            self._running = None

    def _done(self, jobs: list[Job]) -> Sequence[Result | Exception]:
        try:
            return self._work(jobs)
        except Exception as error:  # whoever waits must hear of it
            return [error] * len(jobs)

    def _next_batch(self) -> list[tuple[Job, asyncio.Future]]:
        batch, size = [], 0
        while self._waiting:
            job, future = self._waiting[0]
            if batch and size + job.size > self._limit:
                break
            self._waiting.popleft()
            if not future.done():  # else its client has gone
                batch.append((job, future))
                size += job.size
        return batch


def _settle(future: asyncio.Future, result: object) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
