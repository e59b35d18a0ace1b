"""Every combination of some settings, several seeds each, in one table."""

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from twinlens.quiet import import_tensorflow

import_tensorflow()

from twinlens import commands  # noqa: E402
from twinlens.composed_experiment import open_experiment  # noqa: E402
from twinlens.config import Config, Section, load_config, setting  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.evaluation import metric_names  # noqa: E402
from twinlens.tables import shown_factor  # noqa: E402

METRICS = (
    "text_to_image/recall@1",
    "text_to_image/recall@10",
    "text_to_image/success@5%",
    "image_to_text/recall@1",
)


class Sweep(Section):
    """What a sweep file says."""

    base: str = setting("", "experiment file beside it; empty: the built-in scenes")
    name: str = setting("sweep", "names the run folders and the table")
    seeds: int = setting(1, "of each combination", ge=1)
    set: tuple[str, ...] = setting((), "overrides that all have in common")
    metrics: tuple[str, ...] = setting(METRICS, "columns of the table")
    axes: dict[str, dict[str, tuple[str, ...]]] = setting(
        {}, "by axis and value, the overrides that make the value", min_length=1
    )


def read_sweep(path: Path) -> Sweep:
    """A sweep from its TOML file.

    Raises:
        InputError: no such file, no TOML, or a name or value that does not fit.
    """
    try:
        return Sweep.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise InputError(f"There is no sweep file {path}.") from None
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(
            f"{path} is no sweep file: {error}. It has base, seeds, set, metrics, and "
            'axes: [axes.texts] with lines like BERT = ["text_encoder.name=bert"].'
        ) from None


def combinations(
    sweep: Sweep, path: Path, overrides: list[str]
) -> Iterator[tuple[dict[str, str], Config]]:
    """Each combination's labels by axis, and its settings.

    Args:
        sweep: of `read_sweep`.
        path: of its file, beside which its base is.
        overrides: that win over the file's own.

    Raises:
        InputError: a setting or metric that is not known.
    """
    base = path.parent / sweep.base if sweep.base else None
    _refuse_of_axes(sweep, overrides)
    for values in itertools.product(*(axis.items() for axis in sweep.axes.values())):
        chosen = [label for label, _ in values]
        labels = dict(zip(sweep.axes, chosen, strict=True))
        own = [override for _, each in values for override in each]
        words = [sweep.name, *chosen]
        name = "-".join(re.sub(r"[^a-z0-9]+", "_", word.lower()) for word in words)
        named = [*sweep.set, *own, *overrides, f"name={name!r}"]
        config = load_config(base, named)
        _check_metrics(sweep.metrics, config)
        yield labels, config


def _refuse_of_axes(sweep: Sweep, overrides: list[str]) -> None:
    """An override of what an axis varies would make its rows alike."""
    given = {each.partition("=")[0].strip() for each in overrides}
    for axis, values in sweep.axes.items():
        own = {o.partition("=")[0].strip() for each in values.values() for o in each}
        if given & own:
            raise InputError(
                f"--set {min(given & own)} would win over the axis {axis!r}, whose "
                "rows differ in it. Leave it away, or change the sweep file."
            )


def _check_metrics(wanted: tuple[str, ...], config: Config) -> None:
    known = metric_names(config.evaluation, bool(config.fusion.name))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(
            f"The sweep asks for the metric {', '.join(unknown)}, which is not "
            f"measured. With these settings there are {', '.join(known)}; "
            "evaluation.ks and evaluation.percents make others."
        )


def run_sweep(path: Path, overrides: list[str], restart: bool = False) -> pd.DataFrame:
    """Trains phase 1 of every combination and seed; writes and prints the table.

    Runs that are there already are not trained again, so an interrupted sweep goes on.

    Args:
        path: of the sweep file.
        overrides: for all combinations.
        restart: train everything anew.

    Returns:
        One row for each combination.
    """
    sweep, rows = read_sweep(path), []
    found = list(combinations(sweep, path, overrides))
    for number, (labels, config) in enumerate(found, start=1):
        commands.say(f"{number} of {len(found)}: {', '.join(labels.values())}")
        experiment = open_experiment(config)
        evaluations = [
            commands.train_heads(experiment, commands.seeded(config, seed), restart)[1]
            for seed in range(sweep.seeds)
        ]
        kinds = {"pictures": experiment.images, "captions": experiment.texts}
        features = {
            kind: (each.values.shape[-1], each.items_per_second)
            for kind, each in kinds.items()
        }
        values = {name: [e.metric(name) for e in evaluations] for name in sweep.metrics}
        rows.append(row_of(labels, features, values))
        table = pd.DataFrame(rows)
        _write(table, Path(config.runs) / f"{sweep.name}-sweep", sweep)
    commands.say(as_markdown(table, sweep.metrics, sweep.seeds))
    return table


def _write(table: pd.DataFrame, folder: Path, sweep: Sweep) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "table.csv", index=False)
    text = as_markdown(table, sweep.metrics, sweep.seeds)
    (folder / "table.md").write_text(text, "utf-8")


def row_of(
    labels: dict[str, str],
    features: dict[str, tuple[int, float]],
    values: dict[str, list[float]],
) -> dict[str, Any]:
    """A row of the table.

    Args:
        labels: by axis.
        features: by kind (`"pictures"`, `"captions"`): numbers a feature and items
            encoded a second.
        values: of each metric, over the seeds.
    """
    row: dict[str, Any] = dict(labels)
    for kind, (dim, rate) in features.items():
        row |= {f"{kind}: numbers": dim, f"{kind} a second": rate}
    for name, each in values.items():
        row[name] = float(np.mean(each))
        row[f"{name} deviation"] = float(np.std(each, ddof=1)) if each[1:] else 0.0
    return row


def as_markdown(table: pd.DataFrame, metrics: tuple[str, ...], seeds: int) -> str:
    """The table for a README, in percent, ranks in places: mean ± deviation."""
    plain = [c for c in table if not c.startswith(tuple(metrics))]
    heads = [*plain, *(name.replace("_", " ").replace("/", " ") for name in metrics)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in table.to_dict("records"):
        cells = [_plain(row[name]) for name in plain]
        for name in metrics:
            factor = shown_factor(name)
            deviation = f" ± {factor * row[f'{name} deviation']:.1f}"
            cells.append(f"{factor * row[name]:.1f}{deviation if seeds > 1 else ''}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
