"""What `search` does and prints; `cli_search` only reads its arguments."""

import json as json_format
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens.config import Config, override  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.search import Query, SearchIndex  # noqa: E402
from twinlens.tables import console, say  # noqa: E402

ROOM = 70  # columns that rank, id, score and title take on the terminal


def read_queries(path: str, text: str, image: str, item: str) -> list[Query]:
    """One query, or those of a file.

    Raises:
        InputError: both are given, or the file cannot be read as queries.
    """
    if not path:
        return [Query(text, image or None, item)]
    if text or image or item:
        raise InputError("Give one query, or a file of them with --queries, not both.")
    file = Path(path)
    if not file.is_file():
        raise InputError(f"There is no file of queries {path}.")
    try:
        table = _table_of_queries(file)
    except ValueError as error:  # of every reader, and of text that is not UTF-8
        raise InputError(f"{path} cannot be read as queries ({error}).") from None
    unknown = [name for name in table if name not in ("text", "image", "item")]
    if unknown or not len(table):
        raise InputError(
            f"{path} has {len(table)} queries and the columns {', '.join(table)}. "
            "Expected some of text, image and item, and a row for each query."
        )
    found = []
    for number, row in enumerate(table.to_dict("records"), start=1):
        text, image, item = (str(row.get(n, "")) for n in ("text", "image", "item"))
        try:
            found.append(Query(text, image or None, item))
        except InputError as error:
            raise InputError(f"{path}, query {number}: {error}") from None
    return found


def _table_of_queries(file: Path) -> pd.DataFrame:
    kind = file.suffix.lower()
    if kind in (".csv", ".tsv"):
        separator = "," if kind == ".csv" else "\t"
        return pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False)
    lines = [each for each in file.read_text("utf-8").splitlines() if each.strip()]
    if kind == ".jsonl":
        rows = [json_format.loads(line) for line in lines]
        return pd.DataFrame(rows, dtype=object).fillna("")
    return pd.DataFrame({"text": lines})


def search_settings(given: dict[str, Any], sets: list[str]) -> dict[str, Any]:
    """Settings of a query from options and `--set NAME=VALUE`.

    Raises:
        InputError: an unknown name or a value that does not fit.
    """
    config = override(Config(), [f"search.{each}" for each in sets])
    names = {each.partition("=")[0].partition(".")[0].strip() for each in sets}
    chosen = {name: getattr(config.search, name) for name in names}
    return chosen | {name: value for name, value in given.items() if value is not None}


def search_and_print(
    path: str,
    run: str,
    queries: list[Query],
    where: str,
    settings: dict[str, Any],
    json: bool,
    grid: Path | None,
) -> None:
    """Searches and prints a table, or JSON lines; draws a picture where asked."""
    index = SearchIndex.load(path, run)
    found = index.search_many(queries, where, **settings)
    for number, (query, frame) in enumerate(zip(queries, found, strict=True), start=1):
        if json:
            for record in (
                frame.astype(object).where(frame.notna(), None).to_dict("records")
            ):
                print(json_format.dumps({"query": number} | record, ensure_ascii=False))
        else:
            console.print(_table(query, frame))
    if grid is not None:
        from twinlens.report import draw_answers

        draw_answers(queries, found, index.vectors.items, grid)
        say(f"Grid: {grid}")


def words_of(query: Query) -> str:
    """A query for people."""
    image = "a picture" if isinstance(query.image, bytes) else query.image
    parts = [f"“{query.text}”" if query.text else "", image or "", query.item]
    return " + ".join(str(part) for part in parts if part)


def _table(query: Query, frame: pd.DataFrame) -> Table:
    """Rank, score, id and title; stages and attributes as far as there is room."""
    table = Table(title=Text(words_of(query)), title_justify="left")
    names = [name for name in frame if name not in ("image_path", "split")]
    always = ("rank", "id", "score", "title")
    shown, room = [], console.width - ROOM
    for name in names:
        cost = 3 + max([len(name.split("_")[-1]), *map(len, map(_cell, frame[name]))])
        if name in always or cost <= room:
            shown.append(name)
            room -= 0 if name in always else cost
    for name in shown:
        numbers = pd.api.types.is_numeric_dtype(frame[name])
        justify = "right" if numbers else "left"
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in frame[shown].to_dict("records"):
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
