"""What the service does, whoever asks: the HTTP API, or the search page."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from twinlens.errors import InputError
from twinlens.index.filters import Selection, parse_filter
from twinlens.search import Query, SearchIndex
from twinlens.search.ranking import Ranked
from twinlens.serve import thumbnails
from twinlens.serve.batches import Embed, Embedded, Search, answer
from twinlens.serve.collector import Collector
from twinlens.serve.limits import Limits
from twinlens.serve.metrics import Metrics
from twinlens.serve.refusals import Refusal, too_large
from twinlens.serve.schemas import SearchRequest

DECODERS = 2  # threads: so many pictures are decoded, and in memory, at a time
THUMBNAILS = 4000  # kept: 15 kB each
HIDDEN = ("image_path",)  # columns that say where files lie


class Service:
    """An index and its model, asked by many at once.

    Args:
        index: to search; its model is opened here.
        limits: what a client may ask.

    Attributes:
        model_name: `name` and `digest` of the model whose vectors the index has.

    Raises:
        InputError: the run is gone, or holds another model.
    """

    def __init__(self, index: SearchIndex, limits: Limits | None = None) -> None:
        self.index, self.limits = index, limits or Limits()
        self.model, self.metrics = index.model(), Metrics()
        # The digest opens all of the model, so that a wrong one is refused here.
        self.model_name = {"name": self.model.name, "digest": self.model.digest}
        self.items = index.vectors.items.drop(columns=list(HIDDEN))
        self.everything = index.vectors.selection()
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="picture")
        self._collector: Collector = Collector(
            partial(answer, index), self.limits.batch, self.metrics.batch.observe
        )
        self._thumbnail = lru_cache(THUMBNAILS)(thumbnails.thumbnail)

    def close(self) -> None:
        """Ends the threads."""
        self._collector.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def warm_up(self) -> None:
        """Compiles what queries need, so that the first one is as quick as the rest."""
        queries = [Query("a picture"), Query(image=thumbnails.blank())]
        settings = self.index.settings(k=1)
        jobs = [
            Search(query, settings, self.everything, pixels=self._pixels(query.image))
            for query in queries
        ]
        for batch in (jobs, jobs[:1] * 2):
            answer(self.index, batch)

    # === Questions ===

    async def search(
        self, asked: SearchRequest, picture: bytes | None = None
    ) -> dict[str, Any]:
        """The best items for one query; as `schemas.Answers`.

        Args:
            asked: text, item, filter and settings.
            picture: an uploaded file.

        Raises:
            Refusal: it is above a limit, or there is no such item.
            InputError: the query, filter or settings do not fit, or the file is no
                picture.
        """
        self._check_text(asked.text)
        _check_at_most("answers (k)", asked.k or 1, self.limits.k)
        most = self.limits.filter_length
        _check_at_most("letters of filter (where)", len(asked.where), most)
        if picture is not None and len(picture) > self.limits.upload_bytes:
            raise too_large(self.limits.upload_bytes)
        if asked.item:
            self.row(asked.item)
        settings = self.index.settings(**asked.settings())
        query = Query(asked.text, picture, asked.item)
        selection = self.everything
        if asked.where:
            selection = await self._in_thread(self._select, asked.where)
        pixels = await self._in_thread(self._pixels, picture) if picture else {}
        job = Search(query, settings, selection, asked.where, pixels)
        found = await self._collector.do(job)
        return {
            "results": self._records(found),
            "model": self.model_name,
            "settings": settings.model_dump(),
            "note": self._note(asked.text),
        }

    async def embed(
        self, texts: Sequence[str], pictures: Sequence[bytes] = ()
    ) -> Embedded:
        """Vectors of texts and pictures.

        Raises:
            Refusal: above a limit.
            InputError: a file is no picture.
        """
        _check_at_most("texts", len(texts), self.limits.texts)
        _check_at_most("pictures", len(pictures), self.limits.pictures)
        if not texts and not pictures:
            raise Refusal(422, "There is nothing to embed.", "Send texts or pictures.")
        for text in texts:
            self._check_text(text)
        pixels: dict[bytes, np.ndarray] = {}
        for picture in pictures:
            pixels |= await self._in_thread(self._pixels, picture)
        return await self._collector.do(Embed(tuple(texts), tuple(pictures), pixels))

    # === Items ===

    def row(self, item: str) -> int:
        """The row of an item.

        Raises:
            Refusal: there is none.
        """
        try:
            return int(self.index.vectors.rows([item])[0])
        except InputError:
            raise Refusal(
                404,
                f"There is no item {item[:200]!r} in the index.",
                "Ids are those of search results.",
            ) from None

    def item(self, item: str) -> dict[str, Any]:
        """One item, as `schemas.Item`."""
        return self._item_records([self.row(item)])[0]

    async def picture(self, item: str, size: int = 0) -> tuple[bytes, str]:
        """An item's picture and its media type.

        Args:
            item: its id; the file is the one that the index names.
            size: pixels a side, at most; 0: the file as it is.

        Raises:
            Refusal: no such item, or its file is gone.
        """
        path = self.index.vectors.items["image_path"].iloc[self.row(item)]
        read = partial(self._thumbnail, size=size) if size else thumbnails.original
        found = await self._in_thread(read, str(path))
        if found is None:
            raise Refusal(
                404,
                f"The picture of {item[:200]!r} cannot be read any more.",
                "Put its file back where it was when the index was built.",
            )
        return found

    def has_picture(self, row: int) -> bool:
        """Whether an item names a file."""
        return bool(self.index.vectors.items["image_path"].iloc[row])

    # === Inside ===

    async def _in_thread(self, work: Callable, *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def _pixels(self, picture: bytes | None) -> dict[bytes, np.ndarray]:
        if picture is None:
            return {}
        return {picture: self.model.image_encoder.load(picture)}

    def _select(self, where: str) -> Selection:
        parsed = parse_filter(where, self.items)
        selection = Selection(self.items, self.everything.removed, parsed)
        _ = selection.mask  # made here, not while the model waits
        return selection

    def _check_text(self, text: str) -> None:
        _check_at_most("letters of text", len(text), self.limits.text_length)

    def _note(self, text: str) -> str:
        limit = self.model.text_encoder.description.get("sequence_length") or 0
        words = len(text.split())
        if not limit or words <= limit:
            return ""
        return (
            f"The text has {words:,} words, but the text encoder reads {limit} tokens "
            "only; what follows does not count."
        )

    def _records(self, found: Ranked) -> list[dict[str, Any]]:
        rows = found.rows[0][found.rows[0] >= 0]
        records = self._item_records(rows)
        for place, record in enumerate(records):
            stages = {name: each[0, place] for name, each in found.stages.items()}
            record["rank"] = place + 1
            record["score"] = float(found.scores[0, place])
            record["stages"] = {name: _plain(each) for name, each in stages.items()}
        return records

    def _item_records(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        found = self.items.iloc[list(rows)].to_dict("records")
        return [_record(each) for each in found]


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """An item's row for JSON."""
    record = {name: row.pop(name) for name in ("id", "title", "split")}
    attributes = {name: _plain(value) for name, value in row.items()}
    address = thumbnails.address(record["id"])
    return record | {"attributes": attributes, "image": address}


def _plain(value: Any) -> Any:
    """A value that JSON has; nothing where it is missing or no number."""
    if isinstance(value, np.generic):
        value = value.item()
    if pd.isna(value) or value in (float("inf"), float("-inf")):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def _check_at_most(what: str, count: int, most: int) -> None:
    if count > most:
        error = f"{count:,} {what} were asked for, but {most:,} are the most."
        raise Refusal(422, error, f"Send {most:,} or fewer.")
