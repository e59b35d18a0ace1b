"""Encoding a collection on the machines of a Ray cluster, or on this one's cores."""

import importlib.util
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.config import CacheSettings
from twinlens.errors import InputError
from twinlens.features.store import Encoded, Piece
from twinlens.search.model import SearchModel, open_model

LOCAL = "local"  # Ray's word for a cluster of this machine alone
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")  # TensorFlow's own


class RayEngine:
    """Workers that encode blocks of a collection, one on each core.

    A block is what one process would have encoded between two entries of its journal,
    in the same batches, so the features are the same to the bit. What a worker that
    dies has begun is done again by another one. All machines have to see pictures, run
    and weights under the same paths.

    Args:
        model: of `open_model`; every worker opens it for itself.
        address: of a cluster; empty starts one on this machine.
        workers: how many; 0: one for each core of the cluster.

    Raises:
        InputError: Ray is not installed, no cluster answers at the address, or it has
            fewer cores than workers.

    Example:
        ```python
        engine = RayEngine(model, "10.0.0.1:6379")
        build_index(replace(model, engine=engine), items, "index")
        ```
    """

    def __init__(self, model: SearchModel, address: str = "", workers: int = 0) -> None:
        check_ray()
        _connect(address, workers)
        self._opened = (model.folder.resolve(), os.getcwd(), model.cache, model.digest)
        self._workers = workers or _cores()
        if self._workers > _cores():
            raise InputError(
                f"--workers is {workers}, but the Ray cluster has {_cores()} cores. "
                "Ask for fewer, or add machines to the cluster."
            )

    def __call__(self, kind: str, pieces: Iterable[Piece]) -> Iterator[Encoded]:
        """Features of one piece after another.

        Args:
            kind: of `SearchModel.blocks`.
            pieces: for it.

        Raises:
            InputError: a worker cannot open the model, or it is another one there.
        """
        import ray

        items = [{"piece": piece} for piece in pieces]
        if not items:
            return
        count = min(self._workers, len(items))
        print(f"Starting {count} workers; each opens the model for itself.", flush=True)
        _set_order()
        blocks = ray.data.from_items(items, override_num_blocks=len(items))
        encoded = blocks.map(
            Worker,
            fn_constructor_args=(kind, *self._opened),
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=1,
        )
        for row in encoded.iter_rows():
            if row["problem"]:
                raise InputError(row["problem"])
            broken = json.loads(row["broken"])
            yield row["features"], {int(place): why for place, why in broken.items()}


class Worker:
    """One process of the cluster: opens the model once, then encodes blocks.

    Args:
        kind: of `SearchModel.blocks`.
        run: folder of the run.
        folder: in which relative paths of the run's settings begin.
        cache: settings that say how batches are made.
        digest: of the model that asks.

    Call arguments:
        row: with a `piece`.

    Returns:
        `features`; `broken`, JSON of the reasons by place; and `problem`, why there are
        no features, or nothing. Errors would come back as Ray's, without our words.
    """

    def __init__(
        self, kind: str, run: Path, folder: str, cache: CacheSettings, digest: str
    ) -> None:
        self._problem = ""
        try:
            os.chdir(folder)
            model = replace(open_model(run), cache=cache)
            _check_same(model, digest)
            self._encode = model.blocks(kind)
        except (InputError, OSError) as error:
            self._problem = f"On the machine {os.uname().nodename}: {error}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Encodes the piece of a row; see the class."""
        features, broken = np.zeros((0, 1), np.float32), {}
        if not self._problem:
            features, broken = self._encode(row["piece"])
        found = {"features": features, "broken": json.dumps(broken)}
        return found | {"problem": self._problem}


def _check_same(model: SearchModel, digest: str) -> None:
    if model.digest != digest:
        raise InputError(
            f"The model of {model.folder} is not that of the machine where the command "
            "was given. Install the same versions on all machines, and let them see "
            "the same files."
        )


def check_ray() -> None:
    """Refuses to begin without Ray.

    Raises:
        InputError: it names the extra.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError('--engine ray needs Ray: pip install "twinlens[ray]".')


def _connect(address: str, workers: int) -> None:
    """Joins the cluster, or starts one here; once a process."""
    import ray

    if ray.is_initialized():
        return
    own = str(Path(__file__).parents[2])  # this code first, installed or a clone
    path = os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= dict.fromkeys(THREADS, "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors come as such
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(
            address or LOCAL,
            num_cpus=None if address else workers or os.cpu_count(),
            runtime_env={"env_vars": environment},
            include_dashboard=None if address else False,
            logging_level="ERROR",
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"No Ray cluster can be reached at {address or 'this machine'} ({error}). "
            "Start one with `ray start --head`, or leave --address away."
        ) from None


def _cores() -> int:
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def _set_order() -> None:
    """Blocks come in their order; the cache shows the progress."""
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
