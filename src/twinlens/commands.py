"""What the commands do and print; `cli` only reads their arguments."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens.backend import need_tensorflow  # noqa: E402
from twinlens.composed_experiment import (  # noqa: E402
    ComposedExperiment,
    open_experiment,
)
from twinlens.config import Config, override  # noqa: E402
from twinlens.data_commands import say_data  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.evaluation import (  # noqa: E402
    Evaluation,
    compare,
    evaluate,
    evaluate_run,
    write_evaluation,
)
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.progress import Progress, duration  # noqa: E402
from twinlens.runs import Run, open_run, start_run  # noqa: E402
from twinlens.tables import (  # noqa: E402
    print_comparison,
    print_metrics,
    say,
)
from twinlens.training.diagnosis import check_captions  # noqa: E402
from twinlens.training.numbers import program_key  # noqa: E402
from twinlens.training.phase1 import load_heads, train_phase1  # noqa: E402
from twinlens.training.phase2 import (  # noqa: E402
    load_trained,
    phase1_run,
    train_phase2,
)
from twinlens.training.replicas import Replicas, find_replicas  # noqa: E402
from twinlens.training.together import (  # noqa: E402
    Job,
    Programs,
    train_together,
)
from twinlens.zero_shot import zero_shot  # noqa: E402

# === Train ===


def train_and_report(
    config: Config, phase: int, seeds: int, restart: bool, source: str = ""
) -> None:
    """Trains one or more seeds from one cache, evaluates, writes reports."""
    if phase == 2:
        need_tensorflow("Phase 2 and encoders")
    replicas = find_replicas() if phase == 2 else Replicas()
    experiment = open_experiment(config)
    say_data(experiment.data)
    for warning in check_captions(
        experiment.table[experiment.table["split"] == "train"]
    ):
        say(f"Warning: {warning}")
    configs = [seeded(config, number) for number in range(seeds)]
    if phase == 1:
        pairs = train_all_heads(experiment, configs, restart)
    else:
        pairs = [_phase2(experiment, c, restart, source, replicas) for c in configs]
    runs, found = zip(*pairs, strict=True)
    if not replicas.is_chief:
        say("Done; the first machine measures the model and writes the report.")
        return
    if seeds > 1:
        _write_seeds(runs, found)
    from twinlens.report import write_report

    for run, evaluation in zip(runs, found, strict=True):
        path = write_report(run, experiment, evaluation)
    print_metrics(found)
    say(f"Report: {runs[0].folder / path.name}")


def seeded(config: Config, number: int) -> Config:
    """The settings of one of several seeds; the first has the run's plain name."""
    if not number:
        return config
    name = f"{config.name}-seed{config.seed + number}"
    return config.model_copy(update={"name": name, "seed": config.seed + number})


def _phase2(
    experiment: Experiment,
    config: Config,
    restart: bool,
    source: str,
    replicas: Replicas,
) -> tuple[Run, Evaluation | None]:
    """Fine-tunes from phase 1 and sets the two side by side, on the first machine."""
    before = phase1_run(config, source)
    folder = start_run(config, 2, restart).folder if replicas.is_chief else ""
    run = Run(Path(replicas.from_chief(str(folder))))
    if run.is_trained:
        say(f"{run.folder} is trained already; --restart trains it anew.")
    else:
        train_phase2(config, experiment, run, before, say, replicas)
    if not replicas.is_chief:
        return run, None
    _say_trained(run)
    phase1 = evaluate(load_heads(before), experiment, config.evaluation)
    evaluation = evaluate(load_trained(run), experiment, config.evaluation)
    write_evaluation(run, evaluation)
    table = compare(phase1, evaluation)
    split = evaluation.summary["split"]
    rows = table.to_dict("records")
    run.write_json("comparison.json", {"split": split, "metrics": rows})
    print_comparison(table, ("phase 1", "phase 2"), split)
    return run, evaluation


def train_all_heads(
    experiment: Experiment, configs: Sequence[Config], restart: bool
) -> list[tuple[Run, Evaluation]]:
    """Phase 1 of several settings or seeds on the same features, at once.

    Those that differ in seeds and numbers alone share compiled programs.

    Args:
        experiment: of the data and encoders that all have in common.
        configs: of the runs.
        restart: keep older runs aside and start anew.
    """
    if len(configs) == 1:
        return [train_heads(experiment, configs[0], restart)]
    train = experiment.pairs("train")
    _encode(experiment, {each.evaluation.split for each in configs})
    keys = [program_key(c, len(train) // c.phase1.batch_size) for c in configs]
    sizes = Counter(keys).values()
    alone = sum(size == 1 for size in sizes)
    note = f"; {alone} fit no other's: shape, loss or batch differ" if alone else ""
    say(f"{len(keys)} runs on the same features, compiled programs: {len(sizes)}{note}")
    jobs = [
        Job(key, partial(train_heads, experiment, config, restart))
        for key, config in zip(keys, configs, strict=True)
    ]
    composed = isinstance(experiment, ComposedExperiment)
    return train_together(jobs, "triplets" if composed else "pairs")


def _encode(experiment: Experiment, measured: set[str]) -> None:
    """Makes all features that runs need, so that threads only read them."""
    for split in {"val"} & set(experiment.table["split"]):
        experiment.pairs(split)
    for split in measured:
        if isinstance(experiment, ComposedExperiment):
            experiment.searched(split)
        else:
            experiment.pairs(split)


def train_heads(
    experiment: Experiment,
    config: Config,
    restart: bool,
    programs: Programs | None = None,
    shown_by: Callable[..., Progress] = Progress,
) -> tuple[Run, Evaluation]:
    """Phase 1 of one seed, or the run that is there, and its evaluation.

    `programs` and `shown_by` are those of `train_together`.
    """
    run = start_run(config, phase=1, restart=restart)
    if run.is_trained:
        say(f"{run.folder} is trained already; --restart trains it anew.")
    else:
        _train(experiment, config, run, programs, shown_by)
    evaluation = evaluate(load_heads(run), experiment, config.evaluation)
    write_evaluation(run, evaluation)
    return run, evaluation


def _train(
    experiment: Experiment,
    config: Config,
    run: Run,
    programs: Programs | None,
    shown_by: Callable[..., Progress],
) -> None:
    train = experiment.pairs("train")  # refuses settings before it encodes anything
    broken = experiment.broken_images
    broken.to_csv(run.folder / "broken_images.csv", index=False)
    if len(broken):
        say(
            f"Broken pictures left out: {len(broken)}, "
            f"listed in {run.folder / 'broken_images.csv'}"
        )
    splits = set(experiment.table["split"])
    val = experiment.pairs("val") if "val" in splits else None
    if val is None and config.phase1.checkpoint == "best":
        raise InputError(
            "phase1.checkpoint is 'best', which is chosen on the split 'val', but the "
            f"data has only {', '.join(sorted(splits))}. Set phase1.checkpoint=last, "
            "or give data with a val split."
        )
    train_phase1(config, run, train, val, say, programs, shown_by)
    _say_trained(run)


def _say_trained(run: Run) -> None:
    summary = run.read_json("training.json")
    say(
        f"Trained {summary['epochs']} epochs in {duration(summary['seconds'])}; "
        f"kept epoch {summary['kept_epoch']}: {run.name}"
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


# === Evaluate ===


def evaluate_and_print(path: str, overrides: list[str]) -> None:
    """Measures a run and prints the table."""
    run = open_run(path)
    config = override(run.config, overrides)
    found = evaluate_run(run, config)
    print_metrics([found])
    from twinlens.report import write_report

    say(f"Report: {write_report(run, open_experiment(config), found)}")


def zero_shot_and_print(config: Config) -> None:
    """Measures a ready pair without any training and prints the table."""
    experiment = Experiment(config)
    heads = zero_shot(experiment.image_encoder, experiment.text_encoder)
    print_metrics([evaluate(heads, experiment, config.evaluation)])


def compare_and_print(path: str, other: str, overrides: list[str]) -> None:
    """Measures two runs on the same queries and tests their differences."""
    runs = [open_run(path), open_run(other)]
    found = []
    for run in runs:
        config = override(run.config, overrides)
        experiment = open_experiment(config)
        found.append(evaluate(load_trained(run), experiment, config.evaluation))
    names = (runs[0].name, runs[1].name)
    print_comparison(compare(*found), names, found[0].summary["split"])
