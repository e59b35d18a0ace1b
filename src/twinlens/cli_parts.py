"""What the commands on the command line have in common."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

INTERRUPTED = 130  # the exit status of a program stopped by Ctrl-C

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Experiment file (TOML); without it the built-in scenes."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Override a setting: phase1.batch_size=512."
    ),
]


def stoppable(command: Callable) -> Callable:
    """Says what an interrupted command leaves; typer would end it without a word."""

    @functools.wraps(command)
    def wrapped(**arguments: object) -> None:
        try:
            command(**arguments)
        except KeyboardInterrupt as stop:
            text = str(stop) or "Interrupted. The same command goes on where it can."
            Console(stderr=True).print(f"\n{text}", markup=False, soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None

    return wrapped
