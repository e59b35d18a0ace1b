"""`serve` on the command line."""

from typing import Annotated

import typer

from twinlens.cli_parts import stoppable
from twinlens.cli_search import RunOption


@stoppable
def serve_command(
    index: Annotated[str, typer.Argument(help="Index folder, or a run with an index.")],
    run: RunOption = "",
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    ratings: Annotated[
        str, typer.Option(help="File of ratings; by default INDEX/ratings.sqlite.")
    ] = "",
) -> None:
    """Serve an index: a search page, and an HTTP API."""
    from twinlens.serve_commands import serve_index

    serve_index(index, run, host, port, ratings)
