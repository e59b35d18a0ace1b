"""`index` and `search` on the command line."""

from pathlib import Path
from typing import Annotated

import typer

from twinlens.cli_parts import SetOption, stoppable
from twinlens.errors import InputError

RunOption = Annotated[
    str, typer.Option("--run", help="Run folder, or its name: the model that embeds.")
]


@stoppable
def index_command(
    run: RunOption = "",
    index: Annotated[
        str, typer.Option("--index", help="Index folder; by default RUN/index.")
    ] = "",
    data: Annotated[
        str, typer.Option(help="Another data set than the run's: folder or file.")
    ] = "",
    reader: Annotated[str, typer.Option(help="Format of --data.")] = "",
    pictures: Annotated[
        str, typer.Option(help="A folder of pictures without captions, instead.")
    ] = "",
    split: Annotated[str, typer.Option(help="Only train, val or test.")] = "",
    add: Annotated[
        bool, typer.Option("--add", help="Add the data to the index that is there.")
    ] = False,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Take an item out.")
    ] = None,
    near_duplicates: Annotated[
        float | None,
        typer.Option(help="List groups of items at least this alike: 0.95."),
    ] = None,
    tune: Annotated[
        str,
        typer.Option(
            metavar="LABEL",
            help="Choose weights on the val split by precision of this attribute; "
            "of a run with a fusion, `triplets`: the second stage, on train.",
        ),
    ] = "",
    engine: Annotated[
        str, typer.Option(help="`ray`: encode on the machines of a Ray cluster.")
    ] = "",
    address: Annotated[
        str, typer.Option(help="Of the cluster; without it, this machine's cores.")
    ] = "",
    workers: Annotated[
        int, typer.Option(min=0, help="Of the engine; 0: one for each core.")
    ] = 0,
    set_: SetOption = None,
) -> None:
    """Embed a collection and make it searchable; change and check an index."""
    from twinlens import index_commands

    if not (run or index):
        raise InputError("Name the model with --run, or an index with --index.")
    asked = [add, bool(remove), near_duplicates is not None, bool(tune)]
    if sum(asked) > 1:
        raise InputError(
            "Give one of --add, --remove, --near-duplicates and --tune at a time."
        )
    if engine not in ("", "ray") or (not engine and (address or workers)):
        raise InputError(
            f"--engine is {engine!r}. Give --engine ray, which --address and --workers "
            "go with, or none of the three."
        )
    if engine and (any(asked) and not add):
        raise InputError("--engine encodes: it goes with a new index, or with --add.")
    spread = index_commands.Spread(engine, address, workers)
    overrides = list(set_ or [])
    overrides += [f"data.path={data!r}"] if data else []
    overrides += [f"data.reader={reader!r}"] if reader else []
    folder = index_commands.index_folder(run, index)
    if remove:
        index_commands.remove_items(folder, remove)
    elif near_duplicates is not None:
        index_commands.list_near_duplicates(folder, near_duplicates)
    elif tune == "triplets":
        index_commands.tune_second_stage(folder, run)
    elif tune:
        index_commands.tune_weights(folder, run, tune)
    elif add:
        index_commands.add_to_index(folder, run, overrides, pictures, split, spread)
    else:
        index_commands.make_index(folder, run, overrides, pictures, split, spread)


@stoppable
def search_command(
    index: Annotated[str, typer.Argument(help="Index folder, or a run with an index.")],
    text: Annotated[str, typer.Argument(help="What it should show.")] = "",
    image: Annotated[str, typer.Option(help="Picture file to search by.")] = "",
    item: Annotated[str, typer.Option(help="Item to find similar ones of.")] = "",
    queries: Annotated[
        str,
        typer.Option(help="File of many: text lines, or a table of text, image, item."),
    ] = "",
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="Answers; 5 by default.")
    ] = None,
    where: Annotated[
        str, typer.Option(help="Filter: 'category = \"Shoes\" and year >= 2012'.")
    ] = "",
    text_weight: Annotated[
        float | None, typer.Option(help="Of the text beside a picture, 0 to 1.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Rank so many again by the text; 0: one stage.")
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(help="Against answers alike, 0 to 1.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any search setting: text_to_title=1."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    grid: Annotated[
        Path | None, typer.Option(help="Draw queries and answers into a PNG.")
    ] = None,
    run: RunOption = "",
) -> None:
    """Find items by text, by picture, by both, or by item."""
    from twinlens import search_commands

    given = {
        "k": k,
        "text_weight": text_weight,
        "candidates": candidates,
        "diversity": diversity,
    }
    wanted = search_commands.read_queries(queries, text, image, item)
    settings = search_commands.search_settings(given, set_ or [])
    search_commands.search_and_print(index, run, wanted, where, settings, json, grid)
