"""Queries shown in a report: drawn at random, the best and the worst."""

import base64
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from twinlens import metrics
from twinlens.evaluation import Evaluation
from twinlens.experiment import Experiment
from twinlens.report.figures import direction_ranks
from twinlens.report.pictures import open_picture

ANSWERS = 5  # shown of each search
EXAMPLES = {  # queries shown; all their pictures together stay below 2 MB
    "text_to_image": {"random": 6, "best": 3, "worst": 5},
    "image_to_text": {"random": 4, "best": 2, "worst": 3},
}
THUMBNAIL = 160  # pixels, the longer side
QUALITY = 70  # of a thumbnail as JPEG, about 5 kB


@dataclass(frozen=True)
class Search:
    """One direction: queries, what they search, and which picture each belongs to.

    `certainty` is the best score of a right answer, for each query.
    """

    queries: np.ndarray
    query_pictures: np.ndarray
    gallery: np.ndarray
    gallery_pictures: np.ndarray
    ranks: np.ndarray
    certainty: np.ndarray
    fold: int  # pictures that are searched together

    def choose(self, counts: dict[str, int]) -> dict[str, np.ndarray]:
        """Rows of queries to show, each of another picture."""
        return choose_rows(self.ranks, self.certainty, self.query_pictures, counts)

    def answers(self, row: int) -> list[tuple[int, float, bool]]:
        """Row in the gallery, score and rightness of the first answers.

        If none of them is right, the best right one stands behind them.
        """
        picture, query = self.query_pictures[row], self.queries[row]
        start = picture // self.fold * self.fold
        low, high = np.searchsorted(self.gallery_pictures, [start, start + self.fold])
        gallery = self.gallery[low:high]
        found = metrics.top_k(query[None], gallery, min(ANSWERS, high - low))[0][0]
        right = np.flatnonzero(self.gallery_pictures[low:high] == picture)
        if not np.isin(found, right).any():
            found = np.append(found, right[np.argmax(gallery[right] @ query)])
        return [(low + i, float(gallery[i] @ query), i in right) for i in found]


def choose_rows(
    ranks: np.ndarray,
    certainty: np.ndarray,
    pictures: np.ndarray,
    counts: dict[str, int],
) -> dict[str, np.ndarray]:
    """Rows of queries to show, each of another picture.

    Args:
        ranks: `(queries,)` of the right answer, 1 = best.
        certainty: `(queries,)` its score, which decides among equal ranks.
        pictures: `(queries,)` the picture that a query belongs to.
        counts: how many `random`, `best` and `worst` ones.
    """
    orders = {
        "random": np.random.default_rng(0).permutation(len(ranks)),
        "best": np.lexsort((-certainty, ranks)),
        "worst": np.lexsort((certainty, -ranks)),
    }
    chosen = {}
    for kind, order in orders.items():
        _, first = np.unique(pictures[order], return_index=True)
        chosen[kind] = order[np.sort(first)[: counts[kind]]]
    return chosen


def examples(experiment: Experiment, evaluation: Evaluation) -> dict[str, Any]:
    """By direction and kind: queries with their answers, pictures as base64."""
    embedded = evaluation.embedded
    first = experiment.table.drop_duplicates("image_id")
    paths = dict(zip(first["image_id"], first["image_path"], strict=True))
    picture = cache(lambda row: thumbnail(paths.get(embedded.image_ids[row])))
    caption = embedded.captions.__getitem__
    shown = {"text_to_image": (caption, picture), "image_to_text": (picture, caption)}
    found: dict[str, Any] = {}
    for direction, search in searches(evaluation).items():
        show_query, show_answer = shown[direction]
        found[direction] = {
            kind: [
                {
                    "query": show_query(row),
                    "rank": int(search.ranks[row]),
                    "answers": [(show_answer(i), *rest) for i, *rest in answers],
                }
                for row in rows
                if (answers := search.answers(row))
            ]
            for kind, rows in search.choose(EXAMPLES[direction]).items()
        }
    return found


def searches(evaluation: Evaluation) -> dict[str, Search]:
    """Both directions of an evaluation, to look up answers in."""
    embedded, rows = evaluation.embedded, evaluation.embedded.picture_of_caption
    images, texts, pictures = embedded.images, embedded.texts, np.arange(len(rows))
    own = np.einsum("ij,ij->i", texts, images[rows])
    starts = np.searchsorted(rows, np.arange(len(images)))
    fold = evaluation.summary["gallery"]["text_to_image"]
    sides = {
        "text_to_image": (texts, rows, images, pictures[: len(images)], own),
        "image_to_text": (
            images,
            pictures,
            texts,
            rows,
            np.maximum.reduceat(own, starts),
        ),
    }
    found = {}
    for direction, (*arrays, certainty) in sides.items():
        ranks = direction_ranks(evaluation, direction)
        found[direction] = Search(*arrays, ranks, certainty[: len(ranks)], fold)
    return found


def thumbnail(path: str | Path | None) -> str:
    """A picture as base64 of a small JPEG; empty if it cannot be read any more."""
    picture = open_picture(path, THUMBNAIL) if path else None
    if picture is None:
        return ""
    contents = io.BytesIO()
    picture.save(contents, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(contents.getvalue()).decode()
