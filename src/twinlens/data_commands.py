"""What the command `data` does and prints: a data set read and checked."""

from pathlib import Path

import pandas as pd
from rich.table import Table

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens.composed_experiment import ComposedExperiment  # noqa: E402
from twinlens.config import Config, DataSettings  # noqa: E402
from twinlens.data.broken import find_broken  # noqa: E402
from twinlens.data.table import CaptionData, problem_counts  # noqa: E402
from twinlens.data.triplets import TRIPLET_READERS, TripletData  # noqa: E402
from twinlens.errors import InputError  # noqa: E402
from twinlens.experiment import Experiment  # noqa: E402
from twinlens.tables import console, say  # noqa: E402
from twinlens.training.diagnosis import check_captions  # noqa: E402

SHOWN_PROBLEMS = 5  # examples of each kind; all are counted


def check_data(settings: DataSettings, check_images: bool, grid: Path | None) -> None:
    """Reads a data set and says what is in it and what is wrong with it."""
    config = Config(data=settings)
    if settings.reader in TRIPLET_READERS:
        if grid is not None:
            raise InputError(
                f"--grid draws pictures with captions, but the reader "
                f"{settings.reader!r} gives triplets. Leave --grid away."
            )
        data = ComposedExperiment(config).data
        say_data(data)
        _print_categories(data)
        _say_problems(data)
        if check_images:
            _say_broken(find_broken(data.pictures))
        return
    data = Experiment(config).data
    say_data(data)
    _print_splits(data)
    _say_problems(data)
    for warning in check_captions(data.table):
        say(f"Warning: {warning}")
    if check_images:
        _check_images(data)
    if grid is not None:
        from twinlens.report import draw_samples

        draw_samples(data.table, grid)
        say(f"Samples: {grid}")


def _say_problems(data: CaptionData | TripletData) -> None:
    for kind in problem_counts(data.problems):
        of_kind = [problem for problem in data.problems if problem.kind == kind]
        say(f"{len(of_kind):,} × {kind}:")
        for problem in of_kind[:SHOWN_PROBLEMS]:
            say(f"  {problem.where}: {problem.detail}")


def _print_categories(data: TripletData) -> None:
    """Triplets and galleries by split and category."""
    table = Table()
    for name in ("split", "category"):
        table.add_column(name)
    for name in ("triplets", *data.galleries):
        table.add_column(name, justify="right")
    for (split, category), part in data.triplets.groupby(
        ["split", "category"], sort=False
    ):
        sizes = [len(data.gallery(kind, split, category)) for kind in data.galleries]
        table.add_row(split, category, *(f"{n:,}" for n in (len(part), *sizes)))
    console.print(table)


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
    from twinlens.data.near_duplicates import find_leaks

    broken = find_broken(data.table)
    _say_broken(broken)
    leaks = find_leaks(data.table[~data.table["image_id"].isin(broken["image_id"])])
    say(f"Near-duplicates across splits (leaks): {len(leaks):,} pairs")
    for row in leaks.head(SHOWN_PROBLEMS).itertuples():
        say(f"  {row.image_id_a} ({row.split_a}) and {row.image_id_b} ({row.split_b})")


def _say_broken(broken: pd.DataFrame) -> None:
    say(f"Broken pictures: {len(broken):,}")
    for row in broken.head(SHOWN_PROBLEMS).itertuples():
        say(f"  {row.reason}")


def say_data(data: CaptionData | TripletData) -> None:
    """What is in a data set, in a line, and what was left out."""
    if isinstance(data, TripletData):
        _say_triplets(data)
    else:
        _say_pairs(data)
    counts = problem_counts(data.problems)
    if counts:
        say("Left out: " + ", ".join(f"{n:,} × {kind}" for kind, n in counts.items()))


def _say_triplets(data: TripletData) -> None:
    counts = data.triplets["split"].value_counts()
    parts = [f"{counts[s]:,} {s}" for s in ("train", "val", "test") if s in counts]
    galleries = ", ".join(map(repr, data.galleries))
    say(
        f"{data.source}: {len(data.triplets):,} triplets ({', '.join(parts)}), "
        f"{len(data.pictures):,} pictures; galleries {galleries}"
    )


def _say_pairs(data: CaptionData) -> None:
    table = data.table
    pictures = table.groupby("split")["image_id"].nunique()
    parts = [f"{pictures[s]:,} {s}" for s in ("train", "val", "test") if s in pictures]
    say(
        f"{data.source}: {table['image_id'].nunique():,} pictures "
        f"({', '.join(parts)}), {len(table):,} captions"
    )
