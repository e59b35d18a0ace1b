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
from twinlens.serve.state import State, Watch

DECODERS = 2  # threads: so many pictures are decoded, and in memory, at a time
THUMBNAILS = 4000  # kept: 15 kB each


class Service:
    """An index and its model, asked by many at once.

    What other processes change in the index's folder is served a moment later; a
    request is answered from one state of it from beginning to end.

    Args:
        index: to search; its model is opened here.
        limits: what a client may ask.

    Attributes:
        model_name: `name` and `digest` of the model whose vectors the index has.

    Raises:
        InputError: the run is gone, or holds another model.
    """

    def __init__(self, index: SearchIndex, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.model, self.metrics = index.model(), Metrics()
        # The digest opens all of the model, so that a wrong one is refused here.
        self.model_name = {"name": self.model.name, "digest": self.model.digest}
        self.state, self._watch = State.of(index), None
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="picture")
        self._collector: Collector = Collector(
            partial(answer, self.model), self.limits.batch, self.metrics.batch.observe
        )
        self._thumbnail = lru_cache(THUMBNAILS)(thumbnails.thumbnail)

    @property
    def index(self) -> SearchIndex:
        """The index as it is served now."""
        return self.state.index

    def watch(self, say: Callable[[str], object] = print) -> None:
        """Looks for changes of the index from now on, until `close`."""
        self._watch = self._watch or Watch(self.refresh, say)

    def refresh(self) -> bool:
        """Serves the index as it is in its folder now; whether it had changed.

        Raises:
            InputError: it is damaged, or of another model: the one before is served.
        """
        before = self.state
        if before.index.vectors.is_newest():
            return False
        self.state = State.of(before.index.reloaded())
        self._thumbnail.cache_clear()  # pictures may be others, too
        self._collector.afterwards(before.index.vectors.backend.close)
        return True

    def close(self) -> None:
        """Ends the threads."""
        if self._watch is not None:
            self._watch.close()
        self._collector.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def warm_up(self) -> None:
        """Compiles what queries need, so that the first one is as quick as the rest."""
        queries = [Query("a picture"), Query(image=thumbnails.blank())]
        index, everything = self.index, self.state.everything
        settings = index.settings(k=1)
        jobs = [
            Search(index, query, settings, everything, "", self._pixels(query.image))
            for query in queries
        ]
        for batch in (jobs, jobs[:1] * 2):
            answer(self.model, batch)

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
        state = self.state
        if asked.item:
            _row(state, asked.item)
        settings = state.index.settings(**asked.settings())
        query = Query(asked.text, picture, asked.item)
        selection = state.everything
        if asked.where:
            selection = await self._in_thread(_select, state, asked.where)
        pixels = await self._in_thread(self._pixels, picture) if picture else {}
        job = Search(state.index, query, settings, selection, asked.where, pixels)
        found = await self._collector.do(job)
        return {
            "results": _records(state, found),
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

    def item(self, item: str) -> dict[str, Any]:
        """One item, as `schemas.Item`.

        Raises:
            Refusal: there is none.
        """
        state = self.state
        return _item_records(state, [_row(state, item)])[0]

    async def picture(self, item: str, size: int = 0) -> tuple[bytes, str]:
        """An item's picture and its media type.

        Args:
            item: its id; the file is the one that the index names.
            size: pixels a side, at most; 0: the file as it is.

        Raises:
            Refusal: no such item, or its file is gone.
        """
        state = self.state
        path = state.index.vectors.items["image_path"].iloc[_row(state, item)]
        read = partial(self._thumbnail, size=size) if size else thumbnails.original
        found = await self._in_thread(read, str(path))
        if found is None:
            raise Refusal(
                404,
                f"The picture of {item[:200]!r} cannot be read any more.",
                "Put its file back where it was when the index was built.",
            )
        return found

    # === Inside ===

    async def _in_thread(self, work: Callable, *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def _pixels(self, picture: bytes | None) -> dict[bytes, np.ndarray]:
        if picture is None:
            return {}
        return {picture: self.model.image_encoder.load(picture)}

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


def _row(state: State, item: str) -> int:
    """The row of an item, or a `Refusal`."""
    try:
        return int(state.index.vectors.rows([item])[0])
    except InputError:
        raise Refusal(
            404,
            f"There is no item {item[:200]!r} in the index.",
            "Ids are those of search results.",
        ) from None


def _select(state: State, where: str) -> Selection:
    parsed = parse_filter(where, state.items)
    selection = Selection(state.items, state.everything.removed, parsed)
    _ = selection.mask  # made here, not while the model waits
    return selection


def _records(state: State, found: Ranked) -> list[dict[str, Any]]:
    rows = found.rows[0][found.rows[0] >= 0]
    records = _item_records(state, rows)
    for place, record in enumerate(records):
        stages = {name: each[0, place] for name, each in found.stages.items()}
        record["rank"] = place + 1
        record["score"] = float(found.scores[0, place])
        record["stages"] = {name: _plain(each) for name, each in stages.items()}
    return records


def _item_records(state: State, rows: Iterable[int]) -> list[dict[str, Any]]:
    found = state.items.iloc[list(rows)].to_dict("records")
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
