"""Every combination of some settings, several seeds each, in one table."""

import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens import commands  # noqa: E402
from twinlens.composed_experiment import open_experiment  # noqa: E402
from twinlens.config import Config, Section, load_config, setting  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.evaluation import evaluate, metric_names  # noqa: E402
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.runs import Run  # noqa: E402
from twinlens.sweep_table import (  # noqa: E402
    Row,
    as_markdown,
    best_in_words,
    best_of,
    markdown_of_tests,
    paired_tests,
)
from twinlens.training.phase1 import load_heads  # noqa: E402

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
    metrics: tuple[str, ...] = setting(
        METRICS, "columns of the table; the first one chooses the best", min_length=1
    )
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
        InputError: a setting or metric that is not known, or two combinations whose
            runs would have one name.
    """
    taken: dict[str, list[str]] = {}
    base = path.parent / sweep.base if sweep.base else None
    _refuse_of_axes(sweep, overrides)
    for values in itertools.product(*(axis.items() for axis in sweep.axes.values())):
        chosen = [label for label, _ in values]
        labels = dict(zip(sweep.axes, chosen, strict=True))
        own = [override for _, each in values for override in each]
        words = [sweep.name, *chosen]
        name = "-".join(re.sub(r"[^a-z0-9]+", "_", word.lower()) for word in words)
        if name in taken:
            raise InputError(
                f"The combinations {taken[name]} and {chosen} would both be the run "
                f"{name!r}. Give their values names that differ in letters or digits."
            )
        taken[name] = chosen
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

    Combinations with the same features are trained together; see `train_together`.
    Runs that are there already are not trained again, so an interrupted sweep goes on.

    Args:
        path: of the sweep file.
        overrides: for all combinations.
        restart: train everything anew.

    Returns:
        One row for each combination.
    """
    sweep = read_sweep(path)
    found = list(combinations(sweep, path, overrides))
    groups: dict[str, list[int]] = {}
    for number, (_, config) in enumerate(found):
        groups.setdefault(features_key(config), []).append(number)
    rows: dict[int, Row] = {}
    for numbers in groups.values():
        names = [", ".join(found[number][0].values()) for number in numbers]
        commands.say(f"{len(names)} of {len(found)} combinations: {'; '.join(names)}")
        part = [found[number] for number in numbers]
        rows |= zip(numbers, _train(part, sweep, restart), strict=True)
        in_order = [rows[number] for number in sorted(rows)]
        folder = Path(found[0][1].runs) / f"{sweep.name}-sweep"
        text, table = _write(in_order, folder, sweep)
    commands.say(text)
    return table


def features_key(config: Config) -> str:
    """Equal for settings that train on the same features of the same data."""
    sections = ("data", "pair", "image_encoder", "text_encoder", "cache")
    own = {name: getattr(config, name).model_dump() for name in sections}
    of_others = (
        *(config.loss.positives, config.evaluation.gallery),
        *(bool(config.fusion.name), config.fusion.together),
    )
    return json.dumps([own, of_others])


def _train(
    found: list[tuple[dict[str, str], Config]], sweep: Sweep, restart: bool
) -> list[Row]:
    """Trains combinations with the same features."""
    experiment = open_experiment(found[0][1])
    seeds = range(sweep.seeds)
    configs = [commands.seeded(each, seed) for _, each in found for seed in seeds]
    trained = iter(commands.train_all_heads(experiment, configs, restart))
    kinds = {"pictures": experiment.images, "captions": experiment.texts}
    features = {
        kind: (each.values.shape[-1], each.items_per_second)
        for kind, each in kinds.items()
    }
    rows = []
    for labels, _ in found:
        runs, evaluations = zip(*itertools.islice(trained, sweep.seeds), strict=True)
        watched = _watched(runs, sweep.metrics[0], experiment)
        row = Row(runs[0].name, labels, features, list(evaluations), watched)
        rows.append(row)
    return rows


def _watched(
    runs: Sequence[Run], metric: str, experiment: Experiment
) -> dict[str, list[float]]:
    """A metric of the kept weights on val, by its name; empty without a split val."""
    if "val" not in set(experiment.table["split"]):
        return {}
    return {f"val/{metric}": [_on_val(run, metric, experiment) for run in runs]}


def _on_val(run: Run, metric: str, experiment: Experiment) -> float:
    kept = run.history().iloc[run.read_json("training.json")["kept_epoch"] - 1]
    if f"val/{metric}" in kept:
        return float(kept[f"val/{metric}"])
    settings = run.config.evaluation.model_copy(update={"split": "val"})
    return evaluate(load_heads(run), experiment, settings).metric(metric)


def _write(rows: list[Row], folder: Path, sweep: Sweep) -> tuple[str, pd.DataFrame]:
    """Leaves table and tests in a folder; returns both as a person reads them."""
    table = pd.DataFrame([row.cells(sweep.metrics) for row in rows])
    text = as_markdown(table, (*rows[0].watched, *sweep.metrics), sweep.seeds)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "table.csv", index=False)
    if len(rows) > 1:
        best = best_of(rows)
        against = best or rows[0]
        tests = paired_tests(rows, against, sweep.metrics)
        tests.to_csv(folder / "tests.csv", index=False)
        split = against.evaluations[0].summary["split"]
        words = best_in_words(best, against, split)
        text = f"{text}\n{words}\n{markdown_of_tests(tests)}"
    (folder / "table.md").write_text(text, "utf-8")
    return text, table
