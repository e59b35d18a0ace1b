"""A folder of vectors and items that finds nearest neighbours, grows and shrinks.

`vectors.f32` grows at its end; `index.json` names the generation of everything else
(`items-3.parquet`, `neighbours-3.faiss`) and is replaced last, so that a reader sees
the index before a change or after it, and an interrupted change was none.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.index import backends
from twinlens.index import vectors as vector_file
from twinlens.index.backends import Backend, FlatBackend
from twinlens.index.filters import Selection, parse_filter
from twinlens.index.folder import (
    FORMAT,
    INFO,
    VECTORS,
    check_free,
    files,
    read_info,
    read_items,
    stamp_of,
    write_generation,
    write_info,
    writing,
)

COLUMNS = ("id", "image_path", "title", "split")  # of items, then any attributes
BLOCK = 16_384  # vectors added at once: 64 MB of 1,024 numbers


@dataclass
class VectorIndex:
    """Items and their vectors.

    Attributes:
        folder: where they are.
        info: what `index.json` holds: `model` whose vectors they are, `fields`
            (numbers a vector has of each, in order), `settings`, `audit`.
        items: one row a vector, `COLUMNS` and attributes; removed ones too.
        removed: `(n,)` bool.
        vectors: `(n, dim)` float32 memory map; each field a unit vector, or zeros
            where an item lacks it.
        backend: who finds neighbours.
        stamp: of the folder when it was read.
    """

    folder: Path
    info: dict[str, Any]
    items: pd.DataFrame
    removed: np.ndarray
    vectors: np.ndarray
    backend: Backend
    stamp: tuple[int, ...] = ()
    _rows: pd.Series = field(init=False, repr=False)

    def __post_init__(self) -> None:
        alive = np.flatnonzero(~self.removed)
        self._rows = pd.Series(alive, self.items["id"].iloc[alive])

    def __len__(self) -> int:
        """Items that can be found."""
        return int((~self.removed).sum())

    @property
    def settings(self) -> IndexSettings:
        """How it was built."""
        return IndexSettings.model_validate(self.info["settings"])

    @property
    def fields(self) -> dict[str, slice]:
        """Where each field stands in a vector."""
        ends = np.cumsum(list(self.info["fields"].values())).tolist()
        starts = [0, *ends[:-1]]
        spans = zip(self.info["fields"], starts, ends, strict=True)
        return {name: slice(start, end) for name, start, end in spans}

    def is_newest(self) -> bool:
        """Whether nothing has changed the folder since it was read."""
        return stamp_of(self.folder) in ((), self.stamp)

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """`(m,)` row of each item.

        Raises:
            InputError: an item is not in the index.
        """
        ids = list(ids)
        places = self._rows.index.get_indexer(ids)
        missing = [each for each, at in zip(ids, places, strict=True) if at < 0]
        if missing:
            examples = ", ".join(self.items["id"][~self.removed].head(3))
            raise InputError(
                f"{missing[0]!r} is no item of {self.folder}"
                + (f", nor are {len(missing) - 1} others" if missing[1:] else "")
                + f". Its ids look like {examples or '… it is empty'}."
            )
        return self._rows.to_numpy()[places]

    def selection(self, where: str | Selection = "") -> Selection:
        """Items that are there and pass a filter."""
        if isinstance(where, Selection):
            return where
        chosen = parse_filter(where, self.items) if where else None
        return Selection(self.items, self.removed, chosen)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        where: str | Selection = "",
        without: np.ndarray | None = None,
        exactly: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items with the largest inner products.

        Args:
            queries: `(q, dim)` float32, weighted field by field.
            k: how many.
            where: filter on attributes, or what is left by one.
            without: `(q,)` a row for each query that it may not find, -1 for none.
            exactly: compare every vector, whatever the backend.

        Returns:
            `(q, k)` float32 scores, best first, and `(q, k)` rows; -1 behind the end.

        Raises:
            InputError: the filter does not fit.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        selection = self.selection(where)
        more = k if without is None else k + 1
        if exactly:
            scores, rows = backends.exact(self.vectors, queries, more, selection.mask)
        else:
            scores, rows = self.backend.search(queries, more, selection)
        if without is None:
            return scores, rows
        hit = (rows == without[:, None]) & (rows >= 0)
        order = np.argsort(hit, axis=1, kind="stable")  # the one to leave out, last
        scores, rows = (np.take_along_axis(x, order, 1)[:, :k] for x in (scores, rows))
        return scores, rows

    # === Changes ===

    def add(self, items: pd.DataFrame, blocks: Iterable[np.ndarray]) -> int:
        """Adds items; one with an id that is there takes the older one's place.

        Args:
            items: `COLUMNS` and attributes; `id` is unique.
            blocks: their vectors, `(m, dim)` float32 each, in the items' order.

        Returns:
            How many took an older one's place.

        Raises:
            InputError: an id comes twice, or another process writes.
        """
        twice = items["id"][items["id"].duplicated()]
        if len(twice):
            raise InputError(
                f"{len(twice)} items have the id of another, the first is "
                f"{twice.iloc[0]!r}. Give each item its own id."
            )
        with self._changing():
            start = len(self.items)
            path = self.folder / VECTORS
            total = vector_file.append(path, start, blocks)
            if total - start != len(items):
                raise ValueError(f"{total - start} vectors for {len(items)} items")
            vectors = vector_file.read(path, total, self.vectors.shape[1])
            if not start:
                self.backend = backends.empty_backend(
                    self.settings, vectors, total, self.folder
                )
            items = items.set_axis(range(start, total))
            for first in range(start, total, BLOCK):
                some = items.loc[first : first + BLOCK - 1]
                self.backend.add(np.asarray(vectors[first : first + BLOCK]), some)
            # pandas looks at Arrow strings one by one, at objects all at once.
            ids, new_ids = (each["id"].astype(object) for each in (self.items, items))
            replaced = ids.isin(new_ids).to_numpy() & ~self.removed
            self.removed = np.pad(self.removed | replaced, (0, len(items)))
            self.items = pd.concat([self.items, items]) if start else items
            self.vectors = self.backend.vectors = vectors
            self._commit(np.flatnonzero(replaced), grown=True)
        return int(replaced.sum())

    def remove(self, ids: Iterable[str]) -> None:
        """Takes items out; their vectors stay in the file until it is built anew.

        Raises:
            InputError: an item is not there, or another process writes.
        """
        with self._changing():
            rows = self.rows(ids)
            self.removed[rows] = True
            self._commit(rows)

    def note(self, **values: Any) -> None:
        """Writes values into `index.json`."""
        with self._changing():
            self.info |= values
            write_info(self.folder, self.info)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Starts from what others have written; a failure changes nothing."""
        with writing(self.folder):
            there = self.info["generation"] > 0 or (self.folder / INFO).exists()
            newest = read_info(self.folder) if there else self.info
            if newest["generation"] != self.info["generation"]:
                self.__dict__ |= load(self.folder).__dict__
            self.info = newest
            try:
                yield
            except BaseException:
                if there:
                    self.__dict__ |= load(self.folder).__dict__
                raise

    def _commit(self, gone: np.ndarray, grown: bool = False) -> None:
        save = self.backend.save if grown else None
        write_generation(self.folder, self.info, self.items, self.removed, save)
        self.__post_init__()
        self.backend.remove(gone)


def create(
    folder: str | Path,
    fields: Mapping[str, int],
    settings: IndexSettings,
    model: Mapping[str, Any],
) -> VectorIndex:
    """An empty index in a new folder.

    Args:
        folder: to write; it may not be there yet.
        fields: numbers of each field.
        settings: how to search.
        model: whose vectors these are; `name` and `digest` at least.

    Raises:
        InputError: there is something in the folder, or it cannot be written.
    """
    folder = Path(folder)
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}).") from None
    info = {
        "format": FORMAT,
        "generation": 0,
        "count": 0,
        "model": dict(model),
        "fields": dict(fields),
        "settings": settings.model_dump(),
    }
    nothing = np.zeros((0, sum(fields.values())), np.float32)
    items = pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS})
    backend = FlatBackend(nothing)  # until there is something
    return VectorIndex(folder, info, items, np.zeros(0, bool), nothing, backend)


def load(folder: str | Path) -> VectorIndex:
    """The index in a folder.

    Raises:
        InputError: there is none, it is of another version, or it was cut short.
    """
    folder = Path(folder)
    stamp, info = stamp_of(folder), read_info(folder)
    while True:
        try:
            return replace(_of_generation(folder, info), stamp=stamp)
        except InputError:
            stamp = stamp_of(folder)
            before, info = info, read_info(folder)
            if before["generation"] == info["generation"]:
                raise  # else it was written in the meantime


def _of_generation(folder: Path, info: dict[str, Any]) -> VectorIndex:
    items, removed = read_items(folder, info)
    count, dim = info["count"], sum(info["fields"].values())
    found = vector_file.read(folder / VECTORS, count, dim)
    settings = IndexSettings.model_validate(info["settings"] if count else {})
    path = files(folder, info["generation"])["neighbours"]
    backend = backends.saved_backend(settings, found, path, (~removed).sum())
    return VectorIndex(folder, info, items, removed, found, backend)
