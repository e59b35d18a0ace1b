"""Building an index, adding to it, and checking what an approximate one loses."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens import index as vector_index
from twinlens.config import DataSettings, IndexSettings, SearchSettings
from twinlens.data.readers.guess import is_image
from twinlens.data.splits import SPLITS
from twinlens.data.triplets import TripletData
from twinlens.errors import InputError
from twinlens.index.folder import new_index_folder
from twinlens.index.vector_index import BLOCK
from twinlens.progress import Progress
from twinlens.search.fields import GROWING, Field, Fields
from twinlens.search.model import SearchModel
from twinlens.search.queries import Query
from twinlens.search.search_index import SearchIndex

AUDIT_K = 10  # answers that are compared
SHOWN = 5  # broken pictures named
TAKEN = {  # columns of items, and of answers
    "query",
    "id",
    "title",
    "rank",
    "score",
    "group",
    "joint",
    "text_to_image",
    "text_to_title",
}


def items_of(table: pd.DataFrame) -> pd.DataFrame:
    """One item for each picture of a caption table.

    Args:
        table: `image_id`, `image_path`, `caption`, `split` and attributes.

    Returns:
        `id`, `image_path`, `title` (the first caption), `split` and the attributes,
        as numbers where all of a column are, missing where they are empty. One that
        is called as a column of answers gets an underscore.
    """
    names = {"image_id": "id", "caption": "title"}
    taken = {name: f"{name}_" for name in table.columns[4:] if name in TAKEN}
    items = table.drop_duplicates("image_id").rename(columns=taken | names)
    items = items.reset_index(drop=True)
    for name in items.columns[4:]:
        items[name] = as_numbers(items[name])
    return items


def items_of_triplets(data: TripletData) -> pd.DataFrame:
    """One item for each picture of triplets and their galleries.

    A picture belongs to the split of its triplets, else to that of a gallery; to the
    first of train, val and test where there are several, as to have been seen counts.

    Returns:
        `id`, `image_path`, `title` (empty: a wish says what changes, not what there
        is) and `split`.
    """
    of_triplets = [
        data.triplets[[column, "split"]].set_axis(["image_id", "split"], axis=1)
        for column in ("reference_id", "target_id")
    ]
    of_galleries = [rows[["image_id", "split"]] for rows in data.galleries.values()]
    order = {split: place for place, split in enumerate(SPLITS)}
    found = pd.concat(
        pd.concat(frames).sort_values("split", key=lambda c: c.map(order))
        for frames in (of_triplets, of_galleries)
        if frames
    )
    split = found.drop_duplicates("image_id").set_index("image_id")["split"]
    pictures = data.pictures
    return pd.DataFrame(
        {
            "id": pictures["image_id"],
            "image_path": pictures["image_path"],
            "title": "",
            "split": pictures["image_id"].map(split),
        }
    )


def as_numbers(column: pd.Series) -> pd.Series:
    """A column of text as numbers where every value is one, else as text.

    Empty text is a missing value. Digits that a number would not keep, as in 007 or
    in sixteen and more, are text.
    """
    column = column.mask(column.astype(str) == "")
    given = column.dropna()
    found = pd.to_numeric(given, errors="coerce")
    kept = given.astype(str).str.fullmatch(r"-?(?!0\d)[\d.]{1,15}(?:e-?\d+)?")
    if not len(given) or not np.isfinite(found).all() or not kept.all():
        return column
    whole = (found % 1 == 0).all()
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.astype("Int64" if whole else "Float64")


def pictures_in(folder: str | Path) -> pd.DataFrame:
    """Items of all pictures in a folder and those below it, without titles.

    Raises:
        InputError: there are none.
    """
    folder = Path(folder)
    files = sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if is_image(name)
    )
    if not files:
        raise InputError(f"{folder} holds no picture. Give a folder of pictures.")
    ids = [Path(file).relative_to(folder).as_posix() for file in files]
    return pd.DataFrame({"id": ids, "image_path": files, "title": "", "split": ""})


def build_index(
    model: SearchModel,
    items: pd.DataFrame,
    path: str | Path,
    settings: IndexSettings | None = None,
    search: dict[str, Any] | None = None,
    max_broken_fraction: float = DataSettings().max_broken_fraction,
) -> SearchIndex:
    """Embeds a collection and writes its index.

    Features come from the cache, so an interrupted build goes on where it stopped;
    the folder appears when it is complete.

    Args:
        model: of `open_model`.
        items: of `items_of` or `pictures_in`.
        path: folder to write.
        settings: fields and backend.
        search: settings that differ from the defaults of `SearchSettings`.
        max_broken_fraction: more broken pictures than this are an error.

    Raises:
        InputError: the folder is there, a field does not fit, or too many pictures
            are broken.
    """
    path, settings = Path(path), settings or IndexSettings()
    vector_index.check_free(path)
    fields, good = _fields(model, items, settings.fields, max_broken_fraction)
    sizes = {name: field.dim for name, field in fields.items()}
    said = {
        "name": model.name,
        "digest": model.digest,
        "text_digest": model.text_digest,
        "run": os.path.abspath(model.folder),
        "fusion": model.fusion,
    }
    with new_index_folder(path) as partial:
        made = vector_index.create(partial, sizes, settings, said)
        made.info["search"] = search or {}
        try:
            made.add(items.iloc[good], _blocks(fields, good))
            _note_audit(made, model)
            made.backend.close()  # its files cannot move while they are open
        except BaseException:
            made.backend.clear()
            raise
    index = SearchIndex.load(path)
    index._model = model
    return index


def _note_audit(made: vector_index.VectorIndex, model: SearchModel) -> None:
    """What an approximate index loses, into `index.json`."""
    settings = made.settings
    if settings.backend != "flat" and settings.audit_queries:
        defaults = SearchSettings.model_validate(made.info["search"])
        index = SearchIndex(made, defaults, str(model.folder), model)
        made.note(audit=audit(index, settings.audit_queries))


def add_items(
    index: SearchIndex,
    items: pd.DataFrame,
    max_broken_fraction: float = DataSettings().max_broken_fraction,
    model: SearchModel | None = None,
) -> int:
    """Embeds and adds items; returns how many took the place of one with their id.

    Args:
        index: changed on disk.
        items: as for `build_index`.
        max_broken_fraction: likewise.
        model: the index's own, with an engine; by default it encodes here.

    Raises:
        InputError: the index has a field that was learned from its first collection,
            or as `build_index`.
    """
    names = list(index.vectors.fields)
    fixed = [name for name in names if name not in GROWING]
    if fixed:
        raise InputError(
            f"{index.vectors.folder} has the field {fixed[0]!r}, which was learned "
            "from its collection as a whole, so nothing can be added. Build it anew "
            "with all items."
        )
    items = _of_kinds(index.vectors.items, items)
    model = model or index.model()
    fields, good = _fields(model, items, names, max_broken_fraction)
    return index.vectors.add(items.iloc[good], _blocks(fields, good))


def _of_kinds(known: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Items whose attributes are numbers and text where the index's are."""
    is_number = pd.api.types.is_numeric_dtype
    for name in known.columns.intersection(items.columns):
        column = items[name]
        if not len(known) or is_number(known[name]) == is_number(column):
            continue
        if (column.isna() | (column.astype(str) == "")).all():
            empty = pd.Series(pd.NA, items.index, known[name].dtype)
            items = items.assign(**{name: empty})
            continue
        kinds = ("numbers", "text") if is_number(known[name]) else ("text", "numbers")
        raise InputError(
            f"The attribute {name!r} holds {kinds[0]} in the index, but {kinds[1]} "
            "in these items. Write it in the same way in both."
        )
    return items


def _fields(
    model: SearchModel, items: pd.DataFrame, names: Any, allowed: float
) -> tuple[dict[str, Field], np.ndarray]:
    """The fields by name, and the rows of items whose pictures can be read."""
    if not len(items):
        raise InputError("There are no items to index. Check the data's path.")
    source = Fields(model, items)
    source.check(names)
    fields = {name: source.named(name) for name in names}
    broken = source.broken()
    if len(broken) > allowed * len(items):
        lines = "\n".join(f"  {reason}" for reason in broken.head(SHOWN))
        raise InputError(
            f"{len(broken)} of {len(items)} pictures are broken, more than "
            f"data.max_broken_fraction = {allowed:g} allows:\n{lines}\n"
            "Repair or remove them, or allow more."
        )
    return fields, np.flatnonzero(~items["id"].isin(broken.index))


def _blocks(fields: dict[str, Field], rows: np.ndarray) -> Iterator[np.ndarray]:
    with Progress("embedding items", len(rows), "items") as progress:
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            blocks = [field.block(some) for field in fields.values()]
            yield np.concatenate(blocks, axis=1)
            progress.advance(len(some))


def audit(index: SearchIndex, count: int, seed: int = 0) -> dict[str, float]:
    """What an approximate index loses against exact search, on sampled items.

    Args:
        index: any.
        count: items that ask.
        seed: of the sample.

    Returns:
        recall@10 of the exact answers by direction: `text_to_image`, where items have
        titles to ask with, and `item_to_item`. The first suffers more: texts lie
        apart from the pictures that the index learned from.
    """
    items = index.vectors.items[~index.vectors.removed]
    some = items.sample(min(count, len(items)), random_state=seed)
    titled = some["title"][some["title"] != ""]
    asked = {"item_to_item": [Query(item=each) for each in some["id"]]}
    if len(titled) and {"image", "title"} & index.vectors.fields.keys():
        asked = {"text_to_image": [Query(each) for each in titled]} | asked
    settings = index.settings(k=min(AUDIT_K, len(index)), candidates=0, diversity=0)
    found = {}
    for direction, queries in asked.items():
        near, true = (
            index.ranked(queries, settings=settings, exactly=exactly).rows
            for exactly in (False, True)
        )
        shared = (near[:, :, None] == true[:, None, :]) & (true[:, None, :] >= 0)
        found[direction] = float(shared.any(axis=1).sum() / (true >= 0).sum())
    return found
