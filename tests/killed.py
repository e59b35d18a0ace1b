"""Jobs in processes of their own that are killed; what they leave, and their end."""

import io
import json
import multiprocessing
import os
import tempfile
import time
import tomllib
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet

import twinlens
from twinlens import index as vector_index

SECONDS = 300  # for one job on a busy machine; it takes ten at most
_CONTEXT = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Lets the processes be forked from one that has imported everything."""
    source, tests = Path(twinlens.__file__).parents[1], Path(__file__).parent
    os.environ["PYTHONPATH"] = f"{source}{os.pathsep}{tests}"
    _CONTEXT.set_forkserver_preload(["durable_jobs"])


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit status; -9 if it was killed.
        seconds: it took.
    """

    code: int
    seconds: float


def run_process(
    job: str, home: Path, base: Path, kill_before: int = -1, kill_after: float = SECONDS
) -> Ended:
    """Runs a job, and kills it.

    Args:
        job: of `durable_jobs.JOBS`.
        home: where it writes.
        base: what it reads.
        kill_before: number of the change of a file before which it dies; -1: none.
        kill_after: seconds.
    """
    import durable_jobs

    arguments = (job, home, base, kill_before)
    process = _CONTEXT.Process(target=durable_jobs.start, args=arguments)
    process.start()
    begun = time.monotonic()
    process.join(kill_after)
    process.kill()
    process.join()
    return Ended(process.exitcode, time.monotonic() - begun)


# === What a job leaves ===


def refuse_halves(home: Path) -> None:
    """Reads every file that has its final name."""
    for path in sorted(home.rglob("*")):
        partial = any("partial" in part for part in path.relative_to(home).parts)
        if path.is_file() and not partial and path.suffix in READERS:
            try:
                READERS[path.suffix](path)
            except Exception as error:
                raise AssertionError(f"{path} is half a file") from error


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """All weights of a `.keras` file, by their place."""
    with zipfile.ZipFile(path) as whole:
        assert whole.testzip() is None
        contents = io.BytesIO(whole.read("model.weights.h5"))
    found: dict[str, np.ndarray] = {}

    def keep(name: str, part: Any) -> None:
        if isinstance(part, h5py.Dataset):
            found[name] = part[()]

    with h5py.File(contents) as file:
        file.visititems(keep)
    return found


def _arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        _ = [arrays[name] for name in arrays]


READERS = {
    ".json": lambda path: json.loads(path.read_text("utf-8")),
    ".toml": lambda path: tomllib.loads(path.read_text("utf-8")),
    ".csv": pd.read_csv,
    ".npz": _arrays,
    ".npy": lambda path: np.load(path, mmap_mode="r", allow_pickle=False),
    ".parquet": parquet.read_table,
    ".keras": weights_of,
}


# === What it should be in the end ===


def result_of(job: str, home: Path) -> dict[str, Any]:
    """What a job is for, as arrays and bytes by name."""
    return RESULTS[job](home)


def _cached(home: Path) -> dict[str, Any]:
    files = ("features.npy", "ids.parquet", "key.json")
    return {
        f"{folder.name}/{name}": (folder / name).read_bytes()
        for folder in (home / "cache").iterdir()
        for name in files
        if folder.is_dir()
    }


def _run(home: Path, phase: int) -> dict[str, Any]:
    folder = home / "runs" / f"tiny-phase{phase}"
    rows = pd.read_csv(folder / "metrics.csv").drop(columns="pairs_per_second")
    evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
    assert not (folder / "checkpoint.npz").exists()
    file = "heads.keras" if phase == 1 else "model.keras"
    found = weights_of(folder / file)
    if phase == 2:
        copy = home / "models" / "tiny.keras"
        assert copy.read_bytes() == (folder / file).read_bytes()
    return {**found, "rows": rows.to_numpy(), "metrics": str(evaluation["metrics"])}


def answers_of(home: Path) -> dict[str, Any]:
    """Ids and scores of an index's answers; asked by some fixed queries."""
    index = vector_index.load(home / "index")
    dim = index.vectors.shape[1]
    queries = np.random.default_rng(1).normal(size=(10, dim)).astype(np.float32)
    scores, rows = index.search(queries, 10, exactly=True)
    near, _ = index.search(queries, 10)
    assert (near <= scores + 1e-5).all()
    return {"ids": index.items["id"].to_numpy(str)[rows], "scores": scores}


RESULTS = {
    "encode": _cached,
    "phase1": lambda home: _run(home, 1),
    "phase2": lambda home: _run(home, 2),
    "build": answers_of,
    "add": answers_of,
}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not equal to the last bit."""
    names = sorted(one.keys() | other.keys())
    return [n for n in names if not _same(one.get(n), other.get(n))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and one == other


def work_of(home: Path) -> Counter:
    """How often each piece of work was done, in all processes together."""
    return Counter((home / "work.log").read_text())


def changes_of(home: Path) -> int:
    """How often files were changed."""
    return (home / "files.log").stat().st_size


def fresh_home(job: str, base: Path) -> Path:
    """A folder for a job, with what it needs to begin."""
    home = Path(tempfile.mkdtemp(prefix=f"{job}-", dir=base))
    if job == "add":
        import shutil

        shutil.copytree(base / "index", home / "index")
    return home
