"""What the commands do and print; `cli` only reads their arguments."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from twinlens.quiet import import_tensorflow

import_tensorflow()

from twinlens.config import Config, DataSettings, override  # noqa: E402
from twinlens.data.table import CaptionData, problem_counts  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.evaluation import (  # noqa: E402
    DIRECTIONS,
    Evaluation,
    compare,
    evaluate,
    evaluate_run,
    write_evaluation,
)
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.progress import duration  # noqa: E402
from twinlens.runs import Run, open_run, start_run  # noqa: E402
from twinlens.training.diagnosis import check_captions  # noqa: E402
from twinlens.training.phase1 import load_heads, train_phase1  # noqa: E402

SHOWN_PROBLEMS = 5  # examples of each kind; all are counted
console = Console()


def say(line: str) -> None:
    """Shows a line as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


# === Train ===


def train_and_report(config: Config, seeds: int, restart: bool) -> None:
    """Trains one or more seeds from one cache, evaluates, writes reports."""
    experiment = Experiment(config)
    _say_data(experiment.data)
    for warning in check_captions(
        experiment.table[experiment.table["split"] == "train"]
    ):
        say(f"Warning: {warning}")
    runs, found = [], []
    for number in range(seeds):
        run, evaluation = _train_seed(experiment, number, restart)
        runs.append(run)
        found.append(evaluation)
    if seeds > 1:
        _write_seeds(runs, found)
    from twinlens.report import write_report

    for run, evaluation in zip(runs, found, strict=True):
        path = write_report(run, experiment, evaluation)
    _print_metrics(found)
    say(f"Report: {runs[0].folder / path.name}")


def _train_seed(
    experiment: Experiment, number: int, restart: bool
) -> tuple[Run, Evaluation]:
    config = experiment.config
    if number:
        name = f"{config.name}-seed{config.seed + number}"
        config = config.model_copy(update={"name": name, "seed": config.seed + number})
    run = start_run(config, phase=1, restart=restart)
    if run.is_trained:
        say(f"{run.folder} is trained already; --restart trains it anew.")
    else:
        _train(experiment, config, run)
    evaluation = evaluate(load_heads(run), experiment, config.evaluation)
    write_evaluation(run, evaluation)
    return run, evaluation


def _train(experiment: Experiment, config: Config, run: Run) -> None:
    broken = experiment.broken_images
    broken.to_csv(run.folder / "broken_images.csv", index=False)
    if len(broken):
        say(
            f"Broken pictures left out: {len(broken)}, "
            f"listed in {run.folder / 'broken_images.csv'}"
        )
    train = experiment.pairs("train")
    splits = set(experiment.table["split"])
    val = experiment.pairs("val") if "val" in splits else None
    if val is None and config.phase1.checkpoint == "best":
        raise InputError(
            "phase1.checkpoint is 'best', which is chosen on the split 'val', but the "
            f"data has only {', '.join(sorted(splits))}. Set phase1.checkpoint=last, "
            "or give data with a val split."
        )
    train_phase1(config, run, train, val, say)
    summary = run.read_json("training.json")
    say(
        f"Trained {summary['epochs']} epochs in {duration(summary['seconds'])}; "
        f"kept epoch {summary['kept_epoch']}."
    )


def _write_seeds(runs: list[Run], found: list[Evaluation]) -> None:
    """`seeds.json` of the first run: mean and spread of every metric."""
    values = {
        name: [evaluation.metric(name) for evaluation in found]
        for name in found[0].summary["metrics"]
    }
    summary = {
        name: {
            "mean": float(np.mean(each)),
            "std": float(np.std(each, ddof=1)),
            "values": each,
        }
        for name, each in values.items()
    }
    runs[0].write_json(
        "seeds.json",
        {
            "seeds": [run.config.seed for run in runs],
            "runs": [run.name for run in runs],
            "split": found[0].summary["split"],
            "metrics": summary,
        },
    )


def _say_data(data: CaptionData) -> None:
    table = data.table
    pictures = table.groupby("split")["image_id"].nunique()
    parts = [f"{pictures[s]:,} {s}" for s in ("train", "val", "test") if s in pictures]
    say(
        f"{data.source}: {table['image_id'].nunique():,} pictures "
        f"({', '.join(parts)}), {len(table):,} captions"
    )
    counts = problem_counts(data.problems)
    if counts:
        say("Left out: " + ", ".join(f"{n:,} × {kind}" for kind, n in counts.items()))


# === Evaluate ===


def evaluate_and_print(path: str, overrides: list[str]) -> None:
    """Measures a run and prints the table."""
    run = open_run(path)
    config = override(run.config, overrides)
    found = evaluate_run(run, config)
    _print_metrics([found])
    from twinlens.report import write_report

    say(f"Report: {write_report(run, Experiment(config), found)}")


def compare_and_print(path: str, other: str, overrides: list[str]) -> None:
    """Measures two runs on the same queries and tests their differences."""
    runs = [open_run(path), open_run(other)]
    found = []
    for run in runs:
        config = override(run.config, overrides)
        found.append(evaluate(load_heads(run), Experiment(config), config.evaluation))
    split = found[0].summary["split"]
    table = Table(title=f"{runs[0].name} and {runs[1].name} on {split!r}, paired")
    table.add_column("metric", no_wrap=True)
    for column in (runs[0].name, runs[1].name, "difference", "p"):
        table.add_column(column, justify="right", overflow="fold")
    for row in compare(*found).itertuples():
        cells = (f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference:+.4f}")
        table.add_row(row.metric, *cells, f"{row.p_value:.4f}")
    console.print(table)
    say("p: two-sided paired randomisation test, pictures as units.")


def _print_metrics(found: list[Evaluation]) -> None:
    """One row per metric, one column per direction; over seeds mean ± deviation."""
    summary = found[0].summary
    title = f"{summary['split']}: {summary['protocol']}"
    table = Table(title=title)
    table.add_column("metric")
    for direction in DIRECTIONS:
        queries, gallery = summary["queries"][direction], summary["gallery"][direction]
        heading = direction.replace("_", " ")
        table.add_column(f"{heading}\n{queries:,} in {gallery:,}", justify="right")
    shown = [n.split("/")[1] for n in summary["metrics"] if n.startswith("text_to")]
    for name in shown:
        if name.startswith("success@") and not name.endswith("%"):
            continue  # the same number as recall@K
        table.add_row(name, *(_cell(found, f"{d}/{name}") for d in DIRECTIONS))
    console.print(table)
    what = "mean ± deviation over seeds" if len(found) > 1 else "bootstrap interval"
    say(f"In percent, ranks in places; {what}.")


def _cell(found: list[Evaluation], name: str) -> str:
    rank = name.endswith("_rank")
    factor, digits = (1, 1) if rank else (100, 1)
    values = [factor * evaluation.metric(name) for evaluation in found]
    if len(values) > 1:
        return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
    entry = found[0].summary["metrics"][name]
    low, high = factor * entry["low"], factor * entry["high"]
    return f"{values[0]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


# === Data ===


def check_data(settings: DataSettings, check_images: bool, grid: Path | None) -> None:
    """Reads a data set and says what is in it and what is wrong with it."""
    experiment = Experiment(Config(data=settings))
    data = experiment.data
    _say_data(data)
    _print_splits(data)
    for kind in problem_counts(data.problems):
        of_kind = [problem for problem in data.problems if problem.kind == kind]
        say(f"{len(of_kind):,} × {kind}:")
        for problem in of_kind[:SHOWN_PROBLEMS]:
            say(f"  {problem.where}: {problem.detail}")
    for warning in check_captions(data.table):
        say(f"Warning: {warning}")
    if check_images:
        _check_images(data)
    if grid is not None:
        from twinlens.report import draw_samples

        draw_samples(data.table, grid)
        say(f"Samples: {grid}")


def _print_splits(data: CaptionData) -> None:
    table = Table()
    names = ("split", "pictures", "captions", "distinct captions", "words a caption")
    for name in names:
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, part in data.table.groupby("split", sort=False):
        words = part["caption"].str.split().str.len()
        table.add_row(
            split,
            f"{part['image_id'].nunique():,}",
            f"{len(part):,}",
            f"{part['caption'].nunique():,}",
            f"{words.mean():.1f}, {words.min()} to {words.max()}",
        )
    console.print(table)
    attributes = [c for c in data.table.columns[4:]]
    if attributes:
        say(f"Attributes: {', '.join(attributes)}")


def _check_images(data: CaptionData) -> None:
    from twinlens.data.broken import find_broken
    from twinlens.data.near_duplicates import find_leaks

    broken = find_broken(data.table)
    say(f"Broken pictures: {len(broken):,}")
    for row in broken.head(SHOWN_PROBLEMS).itertuples():
        say(f"  {row.reason}")
    leaks = find_leaks(data.table[~data.table["image_id"].isin(broken["image_id"])])
    say(f"Near-duplicates across splits (leaks): {len(leaks):,} pairs")
    for row in leaks.head(SHOWN_PROBLEMS).itertuples():
        say(f"  {row.image_id_a} ({row.split_a}) and {row.image_id_b} ({row.split_b})")
