"""The folder of one training: what it was, how it went, what it left."""

import importlib.metadata
import json
import os
import platform
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from twinlens.backend import JAX, backend
from twinlens.config import Config, config_from, differences, to_toml
from twinlens.errors import InputError
from twinlens.writing import whole_file

PACKAGES = ("twinlens", "tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
NOT_COMPARED = (
    "runs",
    "models",
    "evaluation.",
    "index.",
    "search.",
)  # settings that leave the training as it is


@dataclass(frozen=True)
class Run:
    """A run folder, `<runs>/<name>-phase1/` or `<runs>/<name>-phase2/`.

    It holds `config.toml` (resolved), `versions.json`, `metrics.csv`,
    `evaluation.json`, `ranks.parquet`, `report.html` with `figures/`,
    `heads.keras` or `model.keras`, `checkpoint.npz` while training, and
    `tensorboard/`.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, for tables."""
        return self.folder.name

    @property
    def config(self) -> Config:
        """The resolved settings it was trained with."""
        path = self.folder / "config.toml"
        return config_from(tomllib.loads(path.read_text("utf-8")), str(path))

    @property
    def heads_path(self) -> Path:
        """The trained heads; there when training is over."""
        return self.folder / "heads.keras"

    @property
    def model_path(self) -> Path:
        """The whole model that phase 2 leaves; there when training is over."""
        return self.folder / "model.keras"

    @property
    def has_begun(self) -> bool:
        """Whether an epoch is over: before, there is nothing that could be lost."""
        begun = ("metrics.csv", "checkpoint.npz")
        return self.is_trained or any((self.folder / n).exists() for n in begun)

    @property
    def is_trained(self) -> bool:
        """Whether training is over."""
        return self.heads_path.exists() or self.model_path.exists()

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run."""
        return json.loads((self.folder / name).read_text("utf-8"))

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Writes a JSON file of the run, whole or not at all."""
        self.write_text(name, json.dumps(values, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the run, whole or not at all."""
        with whole_file(self.folder / name) as path:
            path.write_text(text, "utf-8")

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """One row an epoch."""
        self.write_text("metrics.csv", pd.DataFrame(history).to_csv(index=False))

    def history(self) -> pd.DataFrame:
        """One row an epoch, as `write_metrics` left it."""
        return pd.read_csv(self.folder / "metrics.csv")


def start_run(config: Config, phase: int, restart: bool = False) -> Run:
    """The run folder of an experiment: new, or the one that was interrupted.

    Args:
        config: its name and seed name the folder.
        phase: 1 or 2.
        restart: keep a folder that is in the way under another name and start anew.

    Raises:
        InputError: the folder holds a training with other settings.
    """
    run = Run(Path(config.runs) / f"{config.name}-phase{phase}")
    if restart and run.folder.exists():
        run.folder.rename(_free_name(run.folder))
    if run.has_begun:
        _refuse_other_settings(run, config, phase)
        if run.is_trained:  # and was perhaps killed before it could forget this
            (run.folder / "checkpoint.npz").unlink(missing_ok=True)
        return run
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        run.write_json("versions.json", versions())
        run.write_text("config.toml", to_toml(config))
    except OSError as error:
        raise InputError(
            f"Cannot write the run folder {run.folder}: {error}. "
            "Set `runs` to a folder that can be written."
        ) from None
    return run


def open_run(path: str | Path) -> Run:
    """A trained run by its folder, or by its name under `experiments/runs`.

    Raises:
        InputError: there is no such run, or its training is not over.
    """
    folder = Path(path)
    if not folder.is_dir() and len(folder.parts) == 1:
        folder = Path(Config().runs) / folder
    if not (folder / "config.toml").exists():
        known = sorted(p.parent.name for p in folder.parent.glob("*/config.toml"))
        raise InputError(
            f"There is no run in {folder} (no config.toml). Runs beside it: "
            f"{', '.join(known) or 'none'}. Train one with `twinlens train`."
        )
    run = Run(folder)
    if not run.is_trained:
        raise InputError(
            f"The training of {folder} is not over. "
            "Give the same train command again; it goes on where it stopped."
        )
    return run


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    found["processors"] = str(os.cpu_count())
    found["keras backend"] = backend()
    for package in (*PACKAGES, *([JAX] if backend() == JAX else [])):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"  # twinlens in a clone
    return found


def changes(run: Run, config: Config, counts: Callable[[str], bool]) -> str:
    """The settings that differ from a run's and count, one a line; empty if none."""
    return "\n".join(
        f"  {name}: {there!r} there, {now!r} now"
        for name, (there, now) in differences(run.config, config).items()
        if counts(name)
    )


def _refuse_other_settings(run: Run, config: Config, phase: int) -> None:
    later = ("phase2.",) if phase == 1 else ()
    skipped = NOT_COMPARED + later
    changed = changes(run, config, lambda name: not name.startswith(skipped))
    if changed:
        raise InputError(
            f"{run.folder} holds a training with other settings:\n{changed}"
            "\nGive this one its own name with --name, or keep the old one aside "
            "and start anew with --restart."
        )


def _free_name(folder: Path) -> Path:
    number = 1
    while (other := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    return other
