"""The index of a collection together with the model that made it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlens.config import Config, SearchSettings
from twinlens.encoders import ImageEncoder
from twinlens.errors import InputError
from twinlens.index import VectorIndex
from twinlens.index import load as load_vectors
from twinlens.index.filters import Selection
from twinlens.search.model import Picture, SearchModel, open_model
from twinlens.search.queries import Query, encode_queries
from twinlens.search.ranking import Ranked, joined, rank

BLOCK = 256  # queries embedded and ranked at once: bounds the memory of many


@dataclass
class SearchIndex:
    """Finds items by text, by picture, by both, or by item.

    Attributes:
        vectors: items and their vectors.
        defaults: how it is asked where a query does not say otherwise.
        run: folder of the run whose model embeds queries.

    Example:
        ```python
        index = SearchIndex.load("experiments/runs/flickr8k-phase1/index")
        index.search(text="two dogs play in the snow", k=5)
        index.search(image="dog.jpg", text="on a beach", text_weight=0.6)
        index.search(item="15970", where='season = "Fall" and year >= 2012')
        ```
    """

    vectors: VectorIndex
    defaults: SearchSettings
    run: str
    _model: SearchModel | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: str | Path, run: str | Path = "") -> "SearchIndex":
        """The index in a folder.

        Args:
            path: folder of an index; or a run's, or its name, with its index inside.
            run: the run that made it; by default the one that it lies in, else where
                it was then.

        Raises:
            InputError: there is none, it was cut short or is of another version.
        """
        vectors = load_vectors(_find(Path(path)))
        defaults = SearchSettings.model_validate(vectors.info.get("search", {}))
        beside = vectors.folder.parent  # the run, where the index lies in it
        if not run:
            inside = (beside / "config.toml").exists()
            run = beside if inside else vectors.info["model"]["run"]
        return cls(vectors, defaults, str(run))

    def reloaded(self) -> "SearchIndex":
        """The index as it is in its folder now, with the model that is open.

        Raises:
            InputError: it is damaged, or of another model.
        """
        model, vectors = self.model(), load_vectors(self.vectors.folder)
        try:
            check_model(vectors, model)
        except InputError:
            vectors.backend.close()
            raise
        defaults = SearchSettings.model_validate(vectors.info.get("search", {}))
        return SearchIndex(vectors, defaults, self.run, model)

    def __len__(self) -> int:
        """Items that can be found."""
        return len(self.vectors)

    def model(self) -> SearchModel:
        """The model that made the vectors, opened when first needed.

        Raises:
            InputError: the run is gone, or holds another model.
        """
        if self._model is None:
            made_by = self.vectors.info["model"]
            try:
                model = open_model(self.run)
            except InputError as error:
                raise InputError(
                    f"{self.vectors.folder} was made by the run {made_by['name']}, "
                    f"which cannot be opened: {error} If it has moved, say where with "
                    "--run."
                ) from None
            self._model = self._checked(model)
        return self._model

    def _checked(self, model: SearchModel) -> SearchModel:
        """The model; what makes pictures of it is checked when one first needs it."""
        if "text_digest" not in self.vectors.info["model"]:
            check_model(self.vectors, model)
            return model
        check_model(self.vectors, model, "text_digest")

        def open_image_encoder() -> ImageEncoder:
            check_model(self.vectors, model)
            return model.image_encoder

        return replace(model, open_image_encoder=open_image_encoder)

    def search(
        self,
        text: str = "",
        image: Picture | None = None,
        item: str = "",
        k: int | None = None,
        where: str = "",
        **settings: Any,
    ) -> pd.DataFrame:
        """The best items for one query.

        Args:
            text: what it should show; to a fusion beside a picture, what should change.
            image: file of a picture, or its bytes.
            item: id of an item, instead of a picture; it is not found itself.
            k: answers.
            where: filter, for example `'category = "Shoes" and year >= 2012'`.
            **settings: any of `SearchSettings`, for this query.

        Returns:
            One row an answer, best first: `rank` from 1, `id`, `score`, the scores of
            the stages, `title`, `image_path`, `split` and the attributes. Fewer than
            `k` where no more pass the filter.

        Raises:
            InputError: no query; an item, attribute or setting that is not there.
            BrokenImageError: the picture is none.
        """
        if k is not None:
            settings["k"] = k
        return self.search_many([Query(text, image, item)], where, **settings)[0]

    def search_many(
        self, queries: Sequence[Query], where: str = "", **settings: Any
    ) -> list[pd.DataFrame]:
        """The best items for each of many queries, embedded together."""
        chosen = self.settings(**settings)
        if not queries:
            return []
        if not len(self):
            raise InputError(f"{self.vectors.folder} is empty. Add items with --add.")
        return self._frames(self.ranked(queries, where, chosen))

    def settings(self, **changes: Any) -> SearchSettings:
        """The index's settings with some changed.

        Raises:
            InputError: a setting that is not there, or a value that does not fit.
        """
        unknown = [name for name in changes if name not in SearchSettings.model_fields]
        if unknown:
            raise InputError(
                f"There is no search setting {unknown[0]!r}. There are "
                f"{', '.join(SearchSettings.model_fields)}."
            )
        try:
            return SearchSettings.model_validate(self.defaults.model_dump() | changes)
        except ValueError as error:
            raise InputError(f"A search setting does not fit: {error}") from None

    def ranked(
        self,
        queries: Sequence[Query],
        where: str | Selection = "",
        settings: SearchSettings | None = None,
        exactly: bool = False,
    ) -> Ranked:
        """Rows and scores instead of frames; see `search_many`."""
        settings = settings or self.defaults
        selection = self.vectors.selection(where)
        parts = []
        for start in range(0, len(queries), BLOCK):
            encoded = encode_queries(
                queries[start : start + BLOCK],
                self.vectors,
                self.model,
                settings,
            )
            parts.append(rank(encoded, self.vectors, settings, selection, exactly))
        return joined(parts)

    def _frames(self, ranked: Ranked) -> list[pd.DataFrame]:
        frames = []
        stages = ranked.stages if len(ranked.stages) > 1 else {}
        for number, rows in enumerate(ranked.rows):
            found = rows[rows >= 0]
            items = self.vectors.items.iloc[found].reset_index(drop=True)
            scores = {"score": ranked.scores} | stages
            for place, (name, each) in enumerate(scores.items(), start=1):
                items.insert(place, name, each[number, : len(found)], True)
            items.insert(0, "rank", np.arange(1, len(found) + 1))
            frames.append(items)
        return frames

    def remove(self, ids: Iterable[str]) -> None:
        """Takes items out; see `VectorIndex.remove`."""
        self.vectors.remove(ids)


def _find(path: Path) -> Path:
    """The index's own folder."""
    if not path.exists() and len(path.parts) == 1:
        path = Path(Config().runs) / path
    inside = path / "index"
    return inside if (inside / "index.json").exists() else path


def check_model(
    vectors: VectorIndex, model: SearchModel, digest: str = "digest"
) -> None:
    """Refuses another model than the one whose vectors these are.

    Args:
        vectors: of an index.
        model: that is to ask it.
        digest: `"digest"`, or `"text_digest"` for what a text needs of it.

    Raises:
        InputError: names both.
    """
    made_by, found = vectors.info["model"], getattr(model, digest)
    if made_by[digest] != found:
        raise InputError(
            f"{vectors.folder} was made by {made_by['name']} (model "
            f"{made_by[digest][:8]}), but {model.name} is another model "
            f"({found[:8]}): their vectors have nothing to do with each other. "
            "Name the right run with --run, or build the index anew."
        )
