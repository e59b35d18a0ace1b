"""`export` on the command line."""

from pathlib import Path
from typing import Annotated

import typer

from twinlens.cli_parts import stoppable
from twinlens.errors import InputError


@stoppable
def export_command(
    run: Annotated[str, typer.Argument(help="Run folder, or its name.")],
    index: Annotated[
        str,
        typer.Option(
            help="Index folder, or a run with an index: its collection goes into the "
            "model."
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write, such as models/NAME: the SavedModel."),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Both towers as ONNX, too.")
    ] = False,
    litert: Annotated[
        bool, typer.Option("--litert", help="Both towers for LiteRT, too.")
    ] = False,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            help="FILE.parquet or FILE.npy: embeddings of the run's whole data set."
        ),
    ] = None,
    projector: Annotated[
        Path | None,
        typer.Option(help="Folder for TensorBoard's projector, with thumbnails."),
    ] = None,
) -> None:
    """Write a run as a SavedModel that proves itself, or as embeddings."""
    if out is None and (index or onnx or litert):
        raise InputError(
            "--index, --onnx and --litert go into an exported model: name its folder "
            "with --out."
        )
    if out is None and embeddings is None and projector is None:
        raise InputError(
            "Say what to write: --out FOLDER for a model, --embeddings FILE or "
            "--projector FOLDER."
        )
    from twinlens.export_commands import export_and_print

    wanted = {"onnx": onnx, "litert": litert}
    formats = [name for name, is_wanted in wanted.items() if is_wanted]
    export_and_print(run, index, out, formats, embeddings, projector)
