"""Every benchmark, one after another, each in a process of its own.

    python -m experiments.benchmarks --data DATA --models MODELS [--only NAME] [--quick]

`DATA` holds `flickr8k/` and `fashion/`, `MODELS` the weights of InceptionV3 and MiniLM
(`experiments/README.md`); what needs a folder that is not given is left out and named.
Prints one table and leaves it in `experiments/runs/benchmarks-DATE/` as `table.md` and
`table.csv`, with the machine and the versions, and the plot of how cost grows.
"""

import csv
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from experiments.benchmarks.rows import Row, header, line, measure

PACKAGES = (
    *("tensorflow", "keras", "keras-hub", "numpy", "faiss-cpu", "scikit-learn"),
    *("torch", "torchvision", "openvino", "sentence-transformers", "torchmetrics"),
)


@dataclass(frozen=True)
class Benchmark:
    """What to call, and with what.

    Attributes:
        module: below `experiments.benchmarks`.
        places: arguments that are paths below the folders that the user names.
        quick: arguments that differ with `--quick`.
        function: of the module.
    """

    module: str
    places: dict[str, str] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)
    function: str = "rows"


FLICKR8K = "data/flickr8k/Images"
BENCHMARKS = {
    "pictures": Benchmark(
        "pictures",
        {
            "folder": FLICKR8K,
            "weights": "models/inception_v3_through_mixed8.weights.h5",
        },
        {"count": 128, "rounds": 1},
    ),
    "captions": Benchmark(
        "captions",
        {"captions": "data/flickr8k/Flickr8k.token.txt", "model": "models/minilm_l6"},
        {"count": 512, "rounds": 1},
    ),
    "heads": Benchmark("heads", quick={"rounds": 2}),
    "ranks": Benchmark("ranks", quick={"rounds": 1, "texts": 5000, "images": 1000}),
    "search": Benchmark(
        "search", quick={"largest": 10_000, "rounds": 5}, function="exact"
    ),
    "graph": Benchmark(
        "search", quick={"count": 20_000, "rounds": 5}, function="graph"
    ),
    "step": Benchmark("step", {"images": FLICKR8K}, {"rounds": 1}),
    "step_memory": Benchmark("step_memory", {"images": FLICKR8K}, {"negatives": 64}),
    "memory": Benchmark("memory", quick={"rows": 100_000}),
    "segment": Benchmark("segment", {"images": "data/fashion/images"}, {"count": 20}),
    "start": Benchmark("start", quick={"rounds": 1}),
    "growth": Benchmark(
        "growth",
        quick={
            "pictures_sizes": "100,1000",
            "heads_sizes": "2000,10000",
            "flat_sizes": "1000,10000",
            "graph_sizes": "100,1000",
            "ranks_sizes": "1000,10000",
        },
    ),
}


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of data sets.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of weights.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"One or more of {', '.join(BENCHMARKS)}."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: does it run?")
    ] = False,
) -> None:
    """Measures ours beside what a user would take instead."""
    unknown = [name for name in only or [] if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]}: there are {', '.join(BENCHMARKS)}.")
    out = Path(f"experiments/runs/benchmarks-{datetime.now():%Y-%m-%d-%H%M}")
    out.mkdir(parents=True, exist_ok=True)
    folders, found, failed = {"data": data, "models": models}, [], []
    for name in only or BENCHMARKS:
        chosen = BENCHMARKS[name]
        missing = [p for p in chosen.places.values() if not _place(folders, p)]
        if missing:
            print(f"\n{name}: left out, there is no {', '.join(missing)}", flush=True)
            continue
        print(f"\n{name}", flush=True)
        start = time.monotonic()
        try:
            found += _alone(chosen, _arguments(chosen, folders, quick, out))
        except Exception as error:  # one that fails does not take the others with it
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            failed.append(name)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        _write(out, found, quick)  # what is there survives what follows
    print(f"\n{machine()}\n\n{_table(found)}\n\n{out}/table.md, table.csv")
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}")


def _place(folders: dict[str, Path | None], place: str) -> Path | None:
    """The path of a place, where it is there."""
    folder, _, inside = place.partition("/")
    path = folders[folder] / inside if folders[folder] else None
    return path if path and path.exists() else None


def _arguments(
    chosen: Benchmark, folders: dict[str, Path | None], quick: bool, out: Path
) -> dict[str, Any]:
    places = {name: _place(folders, each) for name, each in chosen.places.items()}
    if "weights" in places:
        places["weights"] = str(places["weights"])
    more = {"out": out} if chosen.module == "growth" else {}
    return places | more | (chosen.quick if quick else {})


def _alone(chosen: Benchmark, arguments: dict[str, Any]) -> list[Row]:
    """The rows of a benchmark that runs in a process of its own."""
    module = f"experiments.benchmarks.{chosen.module}"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, module, chosen.function, arguments).result()


# === What stays ===


def machine() -> str:
    """Processor, cores, memory, versions and date, in two lines."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [each.partition(":")[2].strip() for each in lines if "model name" in each]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    found = ", ".join(_versions())
    return (
        f"{names[0] if names else platform.processor()}, {cores} cores, "
        f"{memory:.0f} GB, {datetime.now():%Y-%m-%d}.\n"
        f"Python {platform.python_version()}, {found}."
    )


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"no {name}"


def _table(found: list[Row]) -> str:
    return "\n".join([header(), *(line(row.cells()) for row in found)])


def _write(out: Path, found: list[Row], quick: bool) -> None:
    note = "\n\nTaken with `--quick`: no results.\n" if quick else "\n"
    text = f"{machine()}\n\n{_table(found)}{note}"
    (out / "table.md").write_text(text, "utf-8")
    plain = [asdict(row) | {"reached": row.reached} for row in found]
    with open(out / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, plain[0] if plain else [])
        writer.writeheader()
        writer.writerows(plain)


if __name__ == "__main__":
    typer.run(main)
