"""The command line: each command exists as `twinlens NAME` and `python -m src.NAME`.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from twinlens.cli_export import export_command
from twinlens.cli_parts import ConfigOption, SetOption, stoppable
from twinlens.cli_search import index_command, search_command
from twinlens.cli_serve import serve_command
from twinlens.errors import InputError

READERS = (
    "coco, karpathy, flickr8k, flickr30k, fashion, shopee, table, folder, scenes; "
    "triplets: fashioniq, cirr, edited_scenes"
)

app = typer.Typer(
    help="Train image-text dual encoders and search with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command("train")
@stoppable
def train_command(
    phase: Annotated[
        int,
        typer.Option(
            min=1,
            max=2,
            help="1: the heads on cached features; 2: everything, from phase 1.",
        ),
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    name: Annotated[str, typer.Option(help="Names the run folder.")] = "",
    source: Annotated[
        str, typer.Option("--from", help="Phase 2: the phase-1 run to go on from.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Train so many seeds.")] = 1,
    restart: Annotated[
        bool, typer.Option("--restart", help="Set an older run aside, start anew.")
    ] = False,
    show_settings: Annotated[
        bool, typer.Option("--settings", help="Print all settings and stop.")
    ] = False,
) -> None:
    """Train, evaluate, and write a run folder with a report."""
    from twinlens.config import load_config, to_toml

    overrides = [*(set_ or []), *([f"name={name!r}"] if name else [])]
    settings = load_config(config, overrides)
    if show_settings:
        print(to_toml(settings), end="")
        return
    if source and (phase == 1 or seeds > 1):
        raise InputError("--from names the one phase-1 run of --phase 2, one seed.")
    from twinlens.commands import train_and_report

    train_and_report(settings, phase, seeds, restart, source)


@app.command("sweep")
@stoppable
def sweep_command(
    path: Annotated[Path, typer.Argument(help="Sweep file (TOML).")],
    set_: SetOption = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Set older runs aside, start anew.")
    ] = False,
) -> None:
    """Train phase 1 of every combination of some settings, and table the results."""
    from twinlens.sweep import run_sweep

    run_sweep(path, set_ or [], restart)


@app.command("evaluate")
@stoppable
def evaluate_command(
    run: Annotated[
        str,
        typer.Argument(
            help="Run folder, or its name; with --label, --triplets an index."
        ),
    ] = "",
    other: Annotated[
        str, typer.Argument(help="A second one: compare the two, paired.")
    ] = "",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "",
    label: Annotated[
        str, typer.Option(help="Of an index: items alike in this attribute are right.")
    ] = "",
    triplets: Annotated[
        bool,
        typer.Option(
            "--triplets", help="Of an index of a run with a fusion: one and two stages."
        ),
    ] = False,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="The pair of --config, as it comes.")
    ] = False,
    ratings: Annotated[
        str, typer.Option(metavar="FILE", help="What people thought, from `serve`.")
    ] = "",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure a run or a ready pair, or compare two runs on the same queries."""
    if ratings:
        if any((run, split, label, triplets, zero_shot, config, set_)):
            raise InputError("--ratings names a file of its own; nothing goes with it.")
        from twinlens.rating_commands import print_ratings

        print_ratings(ratings)
        return
    overrides = [*(set_ or []), *([f"evaluation.split={split!r}"] if split else [])]
    if zero_shot == bool(run) or (config and run):
        raise InputError(
            "Name a run; or for a pair without training, give --zero-shot and the "
            "--config that names it."
        )
    if label or triplets:
        if config or set_ or zero_shot or (label and triplets):
            raise InputError(
                f"{'--label' if label else '--triplets'} measures an index as it is; "
                "--config, --set, --zero-shot and the other of both do not go with it."
            )
        if triplets and other:
            raise InputError("--triplets measures one index; name no second one.")
        _evaluate_index([run, *([other] if other else [])], label, triplets, split)
        return
    from twinlens import commands

    if zero_shot:
        from twinlens.config import load_config

        commands.zero_shot_and_print(load_config(config, overrides))
    elif other:
        commands.compare_and_print(run, other, overrides)
    else:
        commands.evaluate_and_print(run, overrides)


def _evaluate_index(paths: list[str], label: str, triplets: bool, split: str) -> None:
    from twinlens import index_commands

    if label:
        index_commands.evaluate_index(paths, label, split or "test")
    else:
        index_commands.evaluate_triplets_of(paths[0], split or "test")


@app.command("data")
@stoppable
def data_command(
    reader: Annotated[str, typer.Argument(help=f"Format: {READERS}.")] = "",
    path: Annotated[str, typer.Argument(help="Folder or file of the data set.")] = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    check_images: Annotated[
        bool, typer.Option(help="Decode every picture and look for leaks.")
    ] = True,
    grid: Annotated[
        Path | None, typer.Option(help="Draw some pictures with captions into a PNG.")
    ] = None,
    show: Annotated[
        Path | None, typer.Option(help="Draw what image_encoder.segment cuts out.")
    ] = None,
) -> None:
    """Read a data set, check it, and say what is in it and what is wrong with it."""
    from twinlens.config import load_config

    given = {"data.reader": reader, "data.path": path}
    overrides = [f"{name}={value!r}" for name, value in given.items() if value]
    settings = load_config(config, [*overrides, *(set_ or [])])
    from twinlens.data_commands import check_data

    if show is not None:
        from twinlens.report.cut_outs import show_cut_outs

        show_cut_outs(settings, show)
    check_data(settings.data, check_images, grid)


@app.command("encoders")
@stoppable
def encoders_command(
    name: Annotated[str, typer.Argument(help="Say more of this one.")] = "",
) -> None:
    """List the picture and text encoders that there are."""
    from twinlens.catalogue import print_encoder, print_encoders

    if name:
        print_encoder(name)
    else:
        print_encoders()


app.command("index")(index_command)
app.command("search")(search_command)
app.command("export")(export_command)
app.command("serve")(serve_command)


def _door(command: Callable) -> Callable[[], None]:
    """A program of one command."""
    single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    single.command()(command)
    return lambda: _run(single)


def _run(program: typer.Typer) -> None:
    """Runs a program; the user's mistakes end without a traceback."""
    console = Console(stderr=True)
    try:
        program()
    except InputError as error:
        console.print("Error:", style="bold red", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def main() -> None:
    """`twinlens`."""
    _run(app)


train = _door(train_command)
evaluate = _door(evaluate_command)
sweep = _door(sweep_command)
data = _door(data_command)
encoders = _door(encoders_command)
index = _door(index_command)
search = _door(search_command)
export = _door(export_command)
serve = _door(serve_command)
