"""What `index` and `search` do and print; `cli_search` only reads their arguments."""

import json as json_format
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from twinlens.quiet import import_tensorflow

import_tensorflow()

from twinlens.config import Config, override  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.index import VectorIndex, load, near_duplicates  # noqa: E402
from twinlens.runs import open_run  # noqa: E402
from twinlens.search import (  # noqa: E402
    Query,
    SearchIndex,
    add_items,
    build_index,
    evaluate_labels,
    group_scores,
    items_of,
    labelled_items,
    open_model,
    pictures_in,
    tune,
)
from twinlens.tables import console, say  # noqa: E402

ROOM = 70  # columns that rank, id, score and title take on the terminal
SHOWN_METRICS = (
    "precision@1",
    "precision@5",
    "recall@10",
    "ndcg@10",
    "map",
)
SHOWN_GROUPS = 20  # of near-duplicates; the file has all

# === Index ===


def index_folder(run: str, index: str) -> Path:
    """Where an index is: as said, or inside its run's folder."""
    return Path(index) if index else open_run(run).folder / "index"


def make_index(
    folder: Path, run: str, overrides: list[str], pictures: str, split: str
) -> None:
    """Embeds a collection and writes its index."""
    if not run:
        raise InputError("A new index needs a model: name its run with --run.")
    opened = open_run(run)
    config = override(opened.config, overrides)
    items = _items(config, pictures, split)
    say(f"{len(items):,} items")
    search = config.search.model_dump(exclude_defaults=True)
    allowed = config.data.max_broken_fraction
    model = open_model(opened)
    index = build_index(model, items, folder, config.index, search, allowed)
    _say_index(index.vectors)
    for direction, recall in index.vectors.info.get("audit", {}).items():
        name = direction.replace("_", " ")
        say(f"Of the exact ten best, {config.index.backend} finds {recall:.1%} {name}.")


def add_to_index(
    folder: Path, run: str, overrides: list[str], pictures: str, split: str
) -> None:
    """Embeds and adds items."""
    index = SearchIndex.load(folder, run)
    config = override(open_run(index.run).config, overrides)
    items = _items(config, pictures, split)
    before = len(index)
    replaced = add_items(index, items, config.data.max_broken_fraction)
    say(f"Added {len(index) - before:,} items; {replaced:,} took an older one's place.")
    _say_index(index.vectors)


def remove_items(folder: Path, ids: list[str]) -> None:
    """Takes items out."""
    index = load(folder)
    index.remove(ids)
    say(f"Removed {len(ids):,} items.")
    _say_index(index)


def list_near_duplicates(folder: Path, threshold: float) -> None:
    """Prints groups of items that are alike and writes all to a file."""
    found = near_duplicates(load(folder), threshold)
    path = folder / "near_duplicates.csv"
    found.to_csv(path, index=False)
    groups = found.groupby("group")["id"].agg(list)
    say(f"{len(found):,} items in {len(groups):,} groups of near-duplicates: {path}")
    for ids in groups.head(SHOWN_GROUPS):
        say("  " + ", ".join(ids[:10]) + (" …" if len(ids) > 10 else ""))


def tune_weights(folder: Path, run: str, label: str) -> None:
    """Chooses weights on the validation split and keeps them in the index."""
    index = SearchIndex.load(folder, run)
    found = tune(index, label)
    precision = found.pop("precision")
    index.vectors.note(search=index.vectors.info.get("search", {}) | found)
    say(f"precision@5 of {label} on val: {precision:.3f}, with")
    for name, value in found.items():
        say(f"  {name} = {value}")


def evaluate_index(paths: list[str], label: str, split: str) -> None:
    """Prints, writes and draws how well items find others of their label."""
    frames, counts = [], []
    for path in paths:
        index = SearchIndex.load(path)
        found = evaluate_labels(index, label, split)
        if paths[1:]:
            found["system"] = f"{index.vectors.folder.name}: " + found["system"]
        frames.append(found)
        _say_groups(index, label, split)
        counts.append(len(labelled_items(index, label, split).rows))
    table = pd.concat(frames, ignore_index=True)
    folder = SearchIndex.load(paths[0]).vectors.folder
    title = f"Same {label}: {counts[0]:,} items of {split!r} ask for one another"
    console.print(_label_table(table, title))
    table.to_csv(folder / f"labels-{label}.csv", index=False)
    from twinlens.report import draw_label_metrics

    picture = folder / f"labels-{label}.png"
    draw_label_metrics(table, title, picture)
    say(f"All metrics: {folder / f'labels-{label}.csv'}\nPlot: {picture}")


def _say_groups(index: SearchIndex, label: str, split: str) -> None:
    """Groups by a threshold, where a validation split could give one."""
    if split == "val" or "val" not in set(index.vectors.items["split"]):
        return
    found = group_scores(index, label, "val", split)
    say(
        f"{index.vectors.folder}: groups of all whose score reaches "
        f"{found['threshold']:.2f} (best on val) have a mean F1 of {found['f1']:.3f}."
    )


def _label_table(found: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    shown = [name for name in SHOWN_METRICS if name in found]
    table.add_column("system", no_wrap=True)
    for name in shown:
        table.add_column(name.replace("@", "\n@"), justify="right")
    for row in found.to_dict("records"):
        cells = ("" if pd.isna(row[c]) else f"{100 * row[c]:.1f}" for c in shown)
        table.add_row(row["system"], *cells)
    return table


def _items(config, pictures: str, split: str) -> pd.DataFrame:
    items = pictures_in(pictures) if pictures else items_of(Experiment(config).table)
    if split:
        items = items[items["split"] == split].reset_index(drop=True)
        if not len(items):
            raise InputError(f"The data has no items of the split {split!r}.")
    return items


def _say_index(index: VectorIndex) -> None:
    files = [path for path in index.folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    attributes = ", ".join(index.items.columns[4:]) or "none"
    say(
        f"{index.folder}: {len(index):,} items, {' + '.join(index.fields)}, "
        f"{index.settings.backend}, {size:,.0f} MB; attributes: {attributes}"
    )


# === Search ===


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
    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda f, **o: pd.read_csv(f, sep="\t", **o),
    }
    if file.suffix in readers:
        table = readers[file.suffix](file, dtype=str, keep_default_na=False)
    elif file.suffix == ".jsonl":
        table = pd.read_json(file, lines=True, dtype=False).fillna("")
    else:
        lines = file.read_text("utf-8").splitlines()
        table = pd.DataFrame({"text": [line for line in lines if line.strip()]})
    unknown = [name for name in table if name not in ("text", "image", "item")]
    if unknown or not len(table):
        raise InputError(
            f"{path} has {len(table)} queries and the columns {', '.join(table)}. "
            "Expected some of text, image and item, and a row for each query."
        )
    rows = table.to_dict("records")
    return [
        Query(str(r.get("text", "")), r.get("image") or None, str(r.get("item", "")))
        for r in rows
    ]


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
    table = Table(title=words_of(query), title_justify="left")
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
        table.add_row(*map(_cell, row.values()))
    return table


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
