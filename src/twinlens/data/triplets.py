"""Triplets for composed retrieval: a reference picture and a wish give the target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from twinlens.data import checks, triplet_checks
from twinlens.data.readers.cirr import cirr
from twinlens.data.readers.fashioniq import fashioniq
from twinlens.data.readers.source import NUMBER, PLACE, Problem, ReaderOptions
from twinlens.data.readers.triplet_source import ORIGINAL_SPLIT as ORIGINAL_SPLIT
from twinlens.data.readers.triplet_source import TripletSource as TripletSource
from twinlens.data.splits import hash_split, keep_keys
from twinlens.data.table import problem_counts, reader_named
from twinlens.errors import InputError

# Columns of every table of triplets, then any attributes.
COLUMNS = ("reference_id", "target_id", "wish", "split", "category")
VAL_SPLIT = "VAL split"  # named after VAL, Chen et al. 2020: pictures of queries only
ALL = "all"  # the gallery of a source that names none, the category of one without


def edited_scenes(path: Path, options: ReaderOptions) -> TripletSource:
    """The built-in edited scenes, drawn into `path` on first use."""
    from twinlens.data.edited_scenes import read_edited_scenes  # late: only it draws

    options.accept("edited_scenes")
    return read_edited_scenes(path)


# A further reader is a function `(path, options) -> TripletSource` and a line here.
TRIPLET_READERS: dict[str, Callable[[Path, ReaderOptions], TripletSource]] = {
    "fashioniq": fashioniq,
    "cirr": cirr,
    "edited_scenes": edited_scenes,
}


@dataclass
class TripletData:
    """Triplets, the pictures they are searched in, and what was wrong with the source.

    Args:
        triplets: `COLUMNS`, then the source's attributes in its order; `split` is
            one of `SPLITS`, `category` is `"all"` where the source has none; every
            picture named exists.
        pictures: `image_id`, unique, and `image_path`: references, targets and
            galleries.
        galleries: kind → `image_id`, `split`, `category`. The kinds are `"original
            split"`, as published, and `"VAL split"`, the references and targets of
            the queries; or `"all"`, the same pictures, where none is published.
        problems: what was counted on the way.
        source: reader and path in words, and which published split is test.
        rule: how captions become a wish, in words.
        keeps_reference: whether a query's reference stays in its gallery.
    """

    triplets: pd.DataFrame
    pictures: pd.DataFrame
    galleries: dict[str, pd.DataFrame]
    problems: list[Problem]
    source: str
    rule: str
    keeps_reference: bool

    def gallery(self, kind: str, split: str, category: str) -> np.ndarray:
        """The `(n,)` ids of the pictures that are searched, in the source's order.

        Raises:
            InputError: there is no such gallery; names those that there are.
        """
        if kind not in self.galleries:
            kinds = ", ".join(map(repr, self.galleries))
            raise InputError(f"There is no gallery {kind!r}; there are {kinds}.")
        rows = self.galleries[kind]
        own = (rows["split"] == split) & (rows["category"] == category)
        if not own.any():
            there = rows[["split", "category"]].drop_duplicates().itertuples(index=False)
            names = ", ".join(f"{each.split} {each.category}" for each in there)
            raise InputError(
                f"The gallery {kind!r} has no pictures of {split} {category}; it has "
                f"those of {names or 'nothing'}."
            )
        return rows["image_id"][own].to_numpy(dtype=object)


def load_triplets(
    reader: str,
    path: str | Path,
    *,
    images: str | Path | None = None,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    max_triplets: int | None = None,
) -> TripletData:
    """Reads triplets and checks them.

    Args:
        reader: a name in `TRIPLET_READERS`.
        path: folder of the source.
        images: picture folder, where it is not the usual one.
        split_fractions: of train, val, test. Where the source has no val, its train
            is divided as train : val by a hash of the target's id; both keep the
            whole gallery of train.
        max_triplets: for a quick look: so many triplets, chosen by hash,
            proportionally from every split. Published galleries stay whole.

    Raises:
        InputError: the source cannot be read, contradicts itself, or has no triplet.

    Example:
        ```python
        data = load_triplets("fashioniq", "data/fashioniq")
        data.gallery("VAL split", "test", "dress")  # 2,628 ids
        ```
    """
    options = ReaderOptions(images=images)
    source = reader_named(reader, TRIPLET_READERS)(Path(path), options)
    rows, pictures, galleries, problems = _checked(source, f"{reader} {path}")
    if not (source.rows["split"] == "val").any():
        rows = _divided(rows, split_fractions)
        galleries = {kind: _with_val(gallery) for kind, gallery in galleries.items()}
    if max_triplets is not None:
        rows = _kept(rows, max_triplets)
    galleries = _completed(galleries, rows)
    named = [rows["reference_id"], rows["target_id"]]
    named += [gallery["image_id"] for gallery in galleries.values()]
    used = triplet_checks.among(pictures["image_id"], pd.concat(named))
    attributes = [name for name in rows if name not in (*COLUMNS, PLACE, NUMBER)]
    return TripletData(
        rows[[*COLUMNS, *attributes]].reset_index(drop=True),
        pictures[used].reset_index(drop=True),
        galleries,
        problems,
        f"{reader} reader, {path}" + (f"; {source.note}" if source.note else ""),
        source.rule,
        source.keeps_reference,
    )


def _checked(
    source: TripletSource, name: str
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame], list[Problem]]:
    """Rows, pictures and galleries that can be used, and what was wrong."""
    problems = list(source.problems)
    rows = _with_category(checks.tidy(source.rows, "wish"))
    galleries = {k: _with_category(rows) for k, rows in source.galleries.items()}
    pictures = checks.placed(source.pictures)
    rows = triplet_checks.drop_empty(rows, problems)
    rows = triplet_checks.drop_unchanged(rows, problems)
    rows = triplet_checks.drop_outside(rows, galleries, problems)
    triplet_checks.count_unnamed_pictures(rows, pictures, problems)
    pictures = triplet_checks.drop_missing_pictures(pictures, problems)
    checks.refuse_ambiguous_pictures(pictures)
    rows = triplet_checks.drop_without_picture(rows, pictures, problems)
    if rows.empty:
        raise InputError(_nothing_left(problems, name))
    pictures = pictures[["image_id", "image_path"]].drop_duplicates("image_id")
    for kind, gallery in galleries.items():
        there = triplet_checks.among(gallery["image_id"], pictures["image_id"])
        galleries[kind] = gallery[there]
    return rows, pictures, galleries, problems


def _with_category(rows: pd.DataFrame) -> pd.DataFrame:
    categories = rows["category"].replace("", ALL) if "category" in rows else ALL
    return rows.assign(category=categories)


def _nothing_left(problems: list[Problem], name: str) -> str:
    if not problems:
        return f"{name} has no triplets at all. Are they the right files?"
    counts = problem_counts(problems)
    first = {problem.kind: problem for problem in reversed(problems)}
    listed = "; ".join(
        f"{count:,} × {kind}, the first in {first[kind].where} ({first[kind].detail})"
        for kind, count in counts.items()
    )
    remedy = "Correct the source."
    if triplet_checks.MISSING in counts:
        remedy = "Name the folder that holds the pictures with `images` (data.images)."
    return f"No triplet is left of {name}: {listed}. {remedy}"


def _divided(
    rows: pd.DataFrame, fractions: tuple[float, float, float]
) -> pd.DataFrame:
    """Rows whose train is train and val, by a hash of the target."""
    hash_split([], fractions)  # are they three shares of one whole?
    train, val, _ = fractions
    if train + val == 0:
        raise InputError(
            f"The split fractions are {list(fractions)}: train and val have no share "
            "to divide the published train split by. Give one of them a share."
        )
    share = train / (train + val)
    drawn = hash_split(rows["target_id"], (share, 1 - share, 0))
    return rows.assign(split=rows["split"].mask(rows["split"] == "train", drawn))


def _with_val(gallery: pd.DataFrame) -> pd.DataFrame:
    train = gallery[gallery["split"] == "train"]
    return pd.concat([gallery, train.assign(split="val")])


def _kept(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    keys = rows["category"]
    for column in ("reference_id", "target_id", "wish"):
        keys = keys + "\n" + rows[column]
    return rows.loc[sorted(keep_keys(keys, rows["split"], count, "max_triplets").index)]


def _completed(
    galleries: Mapping[str, pd.DataFrame], rows: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The published galleries, and the one that is made of the queries' pictures."""
    complete = dict(galleries)
    if not galleries or ORIGINAL_SPLIT in galleries:
        complete[VAL_SPLIT if galleries else ALL] = pd.concat(
            rows[[column, "split", "category"]].rename(columns={column: "image_id"})
            for column in ("reference_id", "target_id")
        )
    names = ["image_id", "split", "category"]
    return {
        kind: gallery[names].drop_duplicates().reset_index(drop=True)
        for kind, gallery in complete.items()
    }
