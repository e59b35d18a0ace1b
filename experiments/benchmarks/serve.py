"""The service over HTTP: latency of one client, throughput of fifty, cold start.

    python -m experiments.benchmarks.serve measure RUN --count 100000

Builds indexes of synthetic vectors, serves each with a run's own encoders, and prints
rows of a Markdown table. Throughput with batches is compared with the same service
that encodes one text at a time (`--batch 1`), in turn. Every text is asked once.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import aiohttp
import typer
from experiments.benchmarks.rounds import alternate
from experiments.benchmarks.rows import Row, compared, measured, printing
from experiments.benchmarks.search import clustered, items_of

CLIENTS = 50
FIRST_SECONDS = 300  # for a service to start on a busy machine
WORDS = {
    "who": [
        "a dog",
        "two men",
        "a child",
        "a woman in red",
        "some people",
        "a cyclist",
    ],
    "does": ["runs", "sits", "jumps", "plays with a ball", "looks up", "is waiting"],
    "where": ["in the snow", "on a beach", "at night", "near a wall", "in a city"],
}
SERVER = ["-m", "experiments.benchmarks.serve", "server"]
Texts = Iterator[str]

app = typer.Typer()


@app.command()
def server(index: str, run: str, port: int, batch: int) -> None:
    """The service with another size of batches; used by `measure`."""
    from twinlens.quiet import import_tensorflow

    import_tensorflow()
    import uvicorn

    from twinlens.search import SearchIndex
    from twinlens.serve import Limits, Service, build_app

    service = Service(SearchIndex.load(index, run), Limits(batch=batch))
    service.warm_up()
    uvicorn.run(build_app(service), port=port, log_level="warning")


def measure(
    run: str, count: int = 100_000, rounds: int = 5, requests: int = 400
) -> Iterator[Row]:
    """Serves synthetic indexes with the model of a run, and asks them."""
    from twinlens.quiet import import_tensorflow

    import_tensorflow()
    from twinlens.config import IndexSettings, SearchSettings
    from twinlens.index import create
    from twinlens.search import SearchIndex, open_model

    model, texts = open_model(run), _texts()
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("flat", "hnsw"):
            settings = IndexSettings(backend=backend)
            said = {"name": model.name, "digest": model.digest, "run": run}
            path, dim = Path(folder) / backend, model.embedding_dim
            made = create(path, {"image": dim}, settings, said)
            made.add(items_of(count), clustered(count, dim, seed=3))
            name = f"{backend}, {count:,} × {dim}"
            yield _cold_start(name, path, run, texts)
            library = SearchIndex(made, SearchSettings(), run, model)
            with _process([*SERVER, path, run], 64) as batched:
                yield from _one_client(name, batched, library, texts, requests)
                with _process([*SERVER, path, run], 1) as single:
                    yield _crowd(name, batched, single, texts, rounds, requests)


app.command()(printing(measure))


def _cold_start(name: str, index: Path, run: str, texts: Texts) -> Row:
    start = time.perf_counter()
    command = ["-m", "src.serve", index, "--run", run, "--port"]
    with _process(command) as port:
        asyncio.run(_asked(port, [next(texts)], 1))
        seconds = time.perf_counter() - start
    return measured(f"service, {name}: cold start to an answer", [seconds], 20.0, "s")


def _one_client(
    name: str, port: int, library, texts: Texts, requests: int
) -> Iterator[Row]:
    http = HTTPConnection("127.0.0.1", port)

    def ask() -> None:
        body = json.dumps({"text": next(texts)})
        http.request("POST", "/search", body, {"Content-Type": "application/json"})
        if not json.loads(http.getresponse().read())["results"]:
            raise RuntimeError("no answers")

    jobs = {"the library": lambda: library.search(next(texts)), "HTTP": ask}
    seconds = alternate(jobs, requests)
    for way, goal in (("HTTP", 40.0), ("the library", None)):
        times = [1000 * each for each in seconds[way]]
        yield measured(f"service, {name}: one client, {way}", times, goal, "ms")


def _crowd(
    name: str, batched: int, single: int, texts: Texts, rounds: int, requests: int
) -> Row:
    def ask(port: int) -> None:
        asyncio.run(_asked(port, list(itertools.islice(texts, requests)), CLIENTS))

    jobs = {"batched": lambda: ask(batched), "single": lambda: ask(single)}
    seconds = alternate(jobs, rounds)
    both = seconds["batched"], seconds["single"]
    question, units = f"service, {name}: {CLIENTS} clients", (requests, "answers")
    return compared(question, "the service one by one", both, units, 3.0)


async def _asked(port: int, texts: list[str], clients: int) -> None:
    """Asks with so many clients at a time; all must be answered."""
    left = iter(texts)
    address = f"http://127.0.0.1:{port}/search"

    async def client(http: aiohttp.ClientSession) -> None:
        for text in left:
            async with http.post(address, json={"text": text}) as answer:
                found = await answer.json()
            if answer.status != 200 or not found["results"]:
                raise RuntimeError(f"{answer.status}: {found}")

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))


@contextlib.contextmanager
def _process(command: list, *more: object) -> Iterator[int]:
    """A service of its own; the port on which it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, *command, port, *more]
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen, port: int) -> None:
    start = time.perf_counter()
    while time.perf_counter() - start < FIRST_SECONDS and process.poll() is None:
        try:
            asyncio.run(_healthy(port))
            return
        except (aiohttp.ClientError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"The service on port {port} does not start.")


async def _healthy(port: int) -> None:
    timeout = aiohttp.ClientTimeout(total=0.5)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        async with http.get(f"http://127.0.0.1:{port}/health") as answer:
            answer.raise_for_status()


def _texts() -> Texts:
    """Different sentences of about ten words, without end."""
    for number in itertools.count():
        for who, does, where in itertools.product(*WORDS.values()):
            yield f"{who} {does} {where} number {number}"


if __name__ == "__main__":
    app()
