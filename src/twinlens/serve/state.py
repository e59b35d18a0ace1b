"""An index at one moment, and when the next moment has come."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from twinlens.index.filters import Selection
from twinlens.search import SearchIndex
from twinlens.serve.facets import Facet, find_facets

HIDDEN = ("image_path",)  # columns that say where files lie
LOOK_SECONDS = 1.0  # between two looks at the folder; a look takes microseconds
LONGEST_PAUSE = 10.0  # seconds between two looks at what cannot be read


@dataclass(frozen=True)
class State:
    """An index at one moment: who asks keeps it until the answer is there.

    Attributes:
        index: to search.
        items: all of it that clients may see, by row.
        everything: items that can be found.
        facets: attributes to filter by.
    """

    index: SearchIndex
    items: pd.DataFrame
    everything: Selection
    facets: list[Facet]

    @classmethod
    def of(cls, index: SearchIndex) -> "State":
        """The state of an index as it is in memory."""
        items = index.vectors.items.drop(columns=list(HIDDEN))
        return cls(index, items, index.vectors.selection(), find_facets(items))


class Watch:
    """Looks now and then, in a thread of its own.

    Args:
        look: what to do; an error is said once, and it is tried again, less often.
        say: shows a line to the person.
        seconds: between two looks.
    """

    def __init__(
        self,
        look: Callable[[], object],
        say: Callable[[str], object],
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._look, self._say, self._seconds = look, say, seconds
        self._said = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; a look that has begun is waited for."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._seconds
        while not self._over.wait(pause):
            try:
                self._look()
                self._said, pause = "", self._seconds
            except Exception as error:  # whatever it is, the next look may succeed
                pause = min(2 * pause, LONGEST_PAUSE)
                if self._said != str(error):
                    self._said = str(error)
                    self._say(f"The index as it was is served on: {error}")
