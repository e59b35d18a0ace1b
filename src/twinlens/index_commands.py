"""What `index` does and prints; `cli_search` only reads its arguments."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens.composed_experiment import ComposedExperiment  # noqa: E402
from twinlens.config import Config, override  # noqa: E402
from twinlens.data.triplets import TRIPLET_READERS  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.evaluation import compare  # noqa: E402
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.index import VectorIndex, check_free, load, near_duplicates  # noqa: E402
from twinlens.runs import open_run  # noqa: E402
from twinlens.search import (  # noqa: E402
    SearchIndex,
    SearchModel,
    add_items,
    build_index,
    evaluate_labels,
    evaluate_stages,
    group_scores,
    items_of,
    items_of_triplets,
    labelled_items,
    open_model,
    pictures_in,
    tune,
    tune_stages,
)
from twinlens.search.ray_engine import RayEngine, check_ray  # noqa: E402
from twinlens.tables import console, print_comparison, print_metrics, say  # noqa: E402

CHANGEABLE = ("data.", "index.", "search.")  # settings that are not the model's
SHOWN_METRICS = (
    "precision@1",
    "precision@5",
    "recall@10",
    "ndcg@10",
    "map",
)
SHOWN_GROUPS = 20  # of near-duplicates; the file has all


@dataclass(frozen=True)
class Spread:
    """Where a collection is encoded.

    Attributes:
        engine: `"ray"`, or empty: in this process.
        address: of the engine's cluster; empty: on this machine.
        workers: of the engine; 0: one for each core.
    """

    engine: str = ""
    address: str = ""
    workers: int = 0

    def check(self) -> None:
        """Refuses an engine that is not installed, before anything is read.

        Raises:
            InputError: it names the extra.
        """
        if self.engine:
            check_ray()

    def of(self, model: SearchModel) -> SearchModel:
        """The model that encodes there."""
        if not self.engine:
            return model
        return replace(model, engine=RayEngine(model, self.address, self.workers))


HERE = Spread()


def index_folder(run: str, index: str) -> Path:
    """Where an index is: as said, or inside its run's folder."""
    return Path(index) if index else open_run(run).folder / "index"


def make_index(
    folder: Path,
    run: str,
    overrides: list[str],
    pictures: str,
    split: str,
    spread: Spread = HERE,
) -> None:
    """Embeds a collection and writes its index."""
    spread.check()
    if not run:
        raise InputError("A new index needs a model: name its run with --run.")
    check_free(folder)
    opened = open_run(run)
    config = _changed(opened.config, overrides)
    items = _items(config, pictures, split)
    say(f"{len(items):,} items")
    search = config.search.model_dump(exclude_defaults=True)
    allowed = config.data.max_broken_fraction
    model = spread.of(open_model(opened))
    index = build_index(model, items, folder, config.index, search, allowed)
    _say_index(index.vectors)
    for direction, recall in index.vectors.info.get("audit", {}).items():
        name = direction.replace("_", " ")
        say(f"Of the exact ten best, {config.index.backend} finds {recall:.1%} {name}.")


def _changed(config: Config, overrides: list[str]) -> Config:
    """The run's settings with others for data, index and search."""
    wrong = [each for each in overrides if not each.strip().startswith(CHANGEABLE)]
    if wrong:
        raise InputError(
            f"{wrong[0]!r} would change the run's own model. An index takes settings "
            f"of {', '.join(CHANGEABLE)} only; train a run with the others."
        )
    return override(config, overrides)


def add_to_index(
    folder: Path,
    run: str,
    overrides: list[str],
    pictures: str,
    split: str,
    spread: Spread = HERE,
) -> None:
    """Embeds and adds items."""
    spread.check()
    index = SearchIndex.load(folder, run)
    config = _changed(open_run(index.run).config, overrides)
    items = _items(config, pictures, split)
    before, allowed = len(index), config.data.max_broken_fraction
    model = spread.of(index.model())
    replaced = add_items(index, items, allowed, model)
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


def tune_second_stage(folder: Path, run: str) -> None:
    """Chooses the second stage on the training triplets and keeps it in the index."""
    index = SearchIndex.load(folder, run)
    found = tune_stages(index)
    chosen = {"candidates": found.candidates, "text_to_image": found.text_to_image}
    index.vectors.note(search=index.vectors.info.get("search", {}) | chosen)
    say(
        f"{found.queries:,} triplets of train in {found.gallery:,} pictures: one stage "
        f"finds {_recalls(found.before)}."
    )
    if not found.candidates:
        say("No second stage finds more; the index keeps to one.")
    else:
        say(f"With a second stage {_recalls(found.after)}:")
    for name, value in chosen.items():
        say(f"  {name} = {value}")


def _recalls(found: dict[int, float]) -> str:
    parts = [f"{100 * value:.1f} % (R@{k})" for k, value in found.items()]
    return " and ".join(parts)


def evaluate_triplets_of(path: str, split: str) -> None:
    """Prints how well composed queries are answered, in one stage and in two."""
    found = evaluate_stages(SearchIndex.load(path), split)
    for each in found:
        print_metrics([each])
    print_comparison(compare(*found), ("one stage", "two stages"), split)


def evaluate_index(paths: list[str], label: str, split: str) -> None:
    """Prints, writes and draws how well items find others of their label."""
    indexes = [SearchIndex.load(path) for path in paths]
    counts = {len(labelled_items(each, label, split).rows) for each in indexes}
    if len(counts) > 1:
        raise InputError(
            f"{paths[0]} and {paths[1]} have {' and '.join(map(str, counts))} items of "
            f"{split!r} with {label!r}. Compare indexes of the same items."
        )
    frames = []
    for path, index in zip(paths, indexes, strict=True):
        found = evaluate_labels(index, label, split)
        if paths[1:]:
            found["system"] = f"{Path(path).name}: " + found["system"]
        frames.append(found)
    table = pd.concat(frames, ignore_index=True)
    title = f"Same {label}: {counts.pop():,} items of {split!r} ask for one another"
    console.print(_label_table(table, title))
    folder = indexes[0].vectors.folder
    table.to_csv(folder / f"labels-{label}.csv", index=False)
    from twinlens.report import draw_label_metrics

    picture = folder / f"labels-{label}.png"
    draw_label_metrics(table, title, picture)
    say(f"All metrics: {folder / f'labels-{label}.csv'}\nPlot: {picture}")
    for index in indexes:
        _say_groups(index, label, split)


def _say_groups(index: SearchIndex, label: str, split: str) -> None:
    """Groups by a threshold, where a validation split can give one."""
    items = index.vectors.items
    if split == "val" or (items["split"] == "val")[items[label].notna()].sum() < 2:
        return
    found = group_scores(index, label, "val", split)
    say(
        f"{index.vectors.folder}: groups of all whose score reaches "
        f"{found['threshold']:.2f} (best on val) have a mean F1 of {found['f1']:.3f}."
    )


def _label_table(found: pd.DataFrame, title: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    shown = [name for name in SHOWN_METRICS if name in found]
    table.add_column("system", no_wrap=True)
    for name in shown:
        table.add_column(name.replace("@", "\n@"), justify="right")
    for row in found.to_dict("records"):
        cells = ("" if pd.isna(row[c]) else f"{100 * row[c]:.1f}" for c in shown)
        table.add_row(Text(row["system"]), *cells)
    return table


def _items(config, pictures: str, split: str) -> pd.DataFrame:
    if pictures:
        items = pictures_in(pictures)
    elif config.data.reader in TRIPLET_READERS:
        items = items_of_triplets(ComposedExperiment(config).data)
    else:
        items = items_of(Experiment(config).table)
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
