"""Vectors and attributes in Milvus, for collections that outgrow one machine.

Milvus holds one entity a row: its number as the primary key, the vector, and every
column of the items, so that a query sends its vectors and its filter and nothing of
the collection's size. `vectors.f32` and the items' file stay in the folder as well:
exact search, second stages and diversity read them.

The folder's `index.json` says what is true. Rows behind its count are of a change that
was interrupted: searches leave them out and the next change writes over them. Removed
rows are deleted after it is written; one that is still found is deleted then.

Without an address Milvus Lite keeps everything in the folder, for one process at a
time. A token or `user:password` of a cluster stands in the variable `MILVUS_TOKEN`.
"""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.index.filters import Selection
from twinlens.index.milvus_client import SECONDS, Connection, open_milvus
from twinlens.index.milvus_fields import expression, field_name, kind_of, values_of

NAME = "milvus.txt"  # holds the collection's name, which nothing else has
MOST = 16_384  # answers that Milvus gives to a query
QUERIES = 256  # sent at once
SENT = 8_000_000  # bytes of vectors at once; a cluster refuses over 64 MB
TEXT_LENGTH = 65_535  # bytes, the most of a VARCHAR


class MilvusBackend:
    """A collection of Milvus; see `Backend`.

    Exact in Milvus Lite, an HNSW graph in a cluster.

    Args:
        settings: `address`, and how the graph is built and searched.
        folder: of the index.
    """

    def __init__(self, settings: IndexSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.kinds: dict[str, str] = {}  # of each field: INT64, DOUBLE, BOOL, VARCHAR
        self.connection = Connection(settings.address, folder)
        self._loaded = None  # the client that knows the collection

    # === Searching ===

    def search(
        self, queries: np.ndarray, k: int, selection: Selection
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Backend`.

        Raises:
            InputError: `k` is more than Milvus gives, or it cannot be reached.
        """
        if k > MOST:
            raise InputError(
                f"{k:,} answers are wanted, but Milvus gives at most {MOST:,}. Lower "
                "search.k, search.candidates or search.diversity."
            )
        found = self._found(queries, k, selection)
        if selection.removed[np.maximum(found[1], 0)][found[1] >= 0].any():
            self.remove(np.flatnonzero(selection.removed))
            found = self._found(queries, k, selection)
        return found

    def _found(self, queries, k, selection):
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        with self._asking("search") as client:
            where = f"row < {len(selection.items)}"
            if selection.filter is not None:
                where += f" and {expression(selection.filter, self.kinds)}"
            width = max(self.settings.hnsw_search, k)
            wanted = {
                "limit": k,
                "filter": where,
                "output_fields": ["row"],
                "search_params": {"metric_type": "IP", "params": {"ef": width}},
                "timeout": SECONDS,
            }
            for start in range(0, len(queries), QUERIES):
                some = list(queries[start : start + QUERIES])
                answers = client.search(self.name, some, anns_field="vector", **wanted)
                for query, hits in enumerate(answers, start):
                    scores[query, : len(hits)] = [hit["distance"] for hit in hits]
                    rows[query, : len(hits)] = [hit["row"] for hit in hits]
        return scores, rows

    # === Changes ===

    def add(self, vectors: np.ndarray, items: pd.DataFrame) -> None:
        """See `Backend`; a row that is there is written over.

        Raises:
            InputError: an attribute is not in the collection or of another kind.
        """
        step = max(1, SENT // (vectors.shape[1] * vectors.itemsize))
        with self._asking("take vectors") as client:
            if not self.kinds:
                self._create(client, vectors.shape[1], items)
            columns = {"row": items.index.tolist()} | self._columns(items)
            for start in range(0, len(items), step):
                some = range(start, min(start + step, len(items)))
                entities = [
                    {name: values[i] for name, values in columns.items()}
                    | {"vector": vectors[i]}
                    for i in some
                ]
                client.upsert(self.name, entities, timeout=SECONDS)

    def remove(self, rows: np.ndarray) -> None:
        """See `Backend`."""
        if not len(rows):
            return
        with self._asking("delete rows") as client:
            for start in range(0, len(rows), MOST):
                some = rows[start : start + MOST].tolist()
                client.delete(self.name, ids=some, timeout=SECONDS)

    def save(self, path: Path) -> None:
        """See `Backend`; Milvus has kept what it was given."""

    def _create(self, client, dim: int, items: pd.DataFrame) -> None:
        """An empty collection."""
        (self.folder / NAME).write_text(f"twinlens_{uuid.uuid4().hex}\n", "utf-8")
        kinds = {field_name(name): kind_of(items[name]) for name in items}
        types = open_milvus().DataType
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", types.INT64, is_primary=True)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=dim)
        for name, kind in kinds.items():
            length = {"max_length": TEXT_LENGTH} if kind == "VARCHAR" else {}
            schema.add_field(name, types[kind], nullable=True, **length)
        client.create_collection(
            self.name,
            schema=schema,
            index_params=self._graph(client),
            consistency_level="Session",  # one's own changes are seen at once
            timeout=SECONDS,
        )
        self.kinds = kinds

    def _graph(self, client):
        parameters = client.prepare_index_params()
        settings = self.settings
        kind = {"index_type": "FLAT"}
        if settings.address:
            links = {"M": settings.hnsw_links, "efConstruction": settings.hnsw_build}
            kind = {"index_type": "HNSW", "params": links}
        parameters.add_index("vector", metric_type="IP", **kind)
        return parameters

    def _columns(self, items: pd.DataFrame) -> dict[str, list[Any]]:
        """Values of each field, `None` where there is none."""
        new = [name for name in items if field_name(name) not in self.kinds]
        if new:
            raise InputError(
                f"These items have the attribute {new[0]!r}, but the index in Milvus "
                "was made without it. Leave it out, or build the index anew with all "
                "items."
            )
        columns: dict[str, list[Any]] = {
            name: [None] * len(items) for name in self.kinds
        }
        for name in items:
            field = field_name(name)
            columns[field] = values_of(items[name], self.kinds[field])
        return columns

    # === Connection ===

    @property
    def name(self) -> str:
        """Of the collection."""
        return (self.folder / NAME).read_text("utf-8").strip()

    def clear(self) -> None:
        """Drops the collection that an interrupted build left.

        Raises:
            InputError: Milvus cannot be reached.
        """
        if (self.folder / NAME).exists():
            with self._asking("drop a collection") as client:
                client.drop_collection(self.name)
            (self.folder / NAME).unlink()
        self.kinds = {}

    def open(self, count: int) -> None:
        """Looks whether everything is there.

        Args:
            count: rows that are not removed.

        Raises:
            InputError: it is not, or Milvus cannot be reached.
        """
        place = self.connection.place
        with self._asking("open the index") as client:
            there = (self.folder / NAME).exists() and client.has_collection(self.name)
            if not there:
                raise InputError(
                    f"Milvus at {place} does not have the collection of "
                    f"{self.folder}. Build the index anew."
                )
            asked = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
            found = client.query(self.name, filter="", **asked)[0]["count(*)"]
        if found < count:
            raise InputError(
                f"Milvus at {place} has {found:,} rows of {self.folder}, but there are "
                f"{count:,}: it was cut short. Build the index anew."
            )

    def close(self) -> None:
        """See `Backend`; the next use opens it again."""
        self.connection.close()
        self._loaded = None

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[Any]:
        with self.connection.asking(what) as client:
            if client is not self._loaded:
                self._load(client)
                self._loaded = client
            yield client

    def _load(self, client) -> None:
        """Makes the collection ready to be searched, where there is one."""
        if not (self.folder / NAME).exists() or not client.has_collection(self.name):
            return
        client.load_collection(self.name)
        fields = client.describe_collection(self.name)["fields"]
        kinds = {each["name"]: each["type"].name for each in fields}
        self.kinds = {n: k for n, k in kinds.items() if n not in ("row", "vector")}
