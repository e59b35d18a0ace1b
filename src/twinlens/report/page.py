"""The page of a report: what is in it; `report.html` says how it looks."""

import base64
import io
import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from twinlens import metrics
from twinlens.config import Config, differences
from twinlens.data.table import problem_counts
from twinlens.evaluation import DIRECTIONS, Evaluation
from twinlens.experiment import Experiment
from twinlens.metrics.retrieval import is_median, places_of_percent
from twinlens.progress import duration
from twinlens.report.figures import (
    PERCENT,
    TITLES,
    chance_curve,
    direction_ranks,
    draw_figures,
    open_picture,
    right_answers,
)
from twinlens.runs import Run

ANSWERS = 5  # shown of each search
EXAMPLES = {  # queries shown; all their pictures together stay below 2 MB
    "text_to_image": {"random": 6, "best": 3, "worst": 5},
    "image_to_text": {"random": 4, "best": 2, "worst": 3},
}
THUMBNAIL = 160  # pixels, the longer side
QUALITY = 70  # of a thumbnail as JPEG, about 5 kB
SLICES = 25  # rows of a table by attribute; the rest is in evaluation.json


def write_report(run: Run, experiment: Experiment, evaluation: Evaluation) -> Path:
    """Writes `report.html` and `figures/*.png` of a run, whole or not at all.

    Args:
        run: a trained run.
        experiment: its data: the table with the paths of the pictures, its problems.
        evaluation: of the run, on any split.

    Returns:
        The page. It holds its pictures and needs no network, script or other file.
    """
    figures = draw_figures(run, evaluation)
    page = _template().render(_contents(run, experiment, evaluation, figures))
    _write_figures(run.folder / "figures", figures)
    run.write_text("report.html", page)
    return run.folder / "report.html"


def _write_figures(folder: Path, figures: dict[str, bytes]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, contents in figures.items():
        (partial / f"{name}.png").write_bytes(contents)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # captions are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "measured": _measured,
        "setting": _setting,
        "score": lambda score: f"{score:.2f}".replace("-", "−"),
        "duration": duration,
    }
    return environment.get_template("report.html")


def _contents(
    run: Run, experiment: Experiment, evaluation: Evaluation, figures: dict[str, bytes]
) -> dict[str, Any]:
    summary = evaluation.summary
    trained = datetime.fromtimestamp((run.folder / "training.json").stat().st_mtime)
    has_seeds = (run.folder / "seeds.json").exists()
    seeds = run.read_json("seeds.json") if has_seeds else {"seeds": [], "metrics": {}}
    return {
        "name": run.name,
        "date": f"{trained.day} {trained:%B %Y, %H:%M}",
        "summary": summary,
        "training": run.read_json("training.json"),
        "versions": run.read_json("versions.json"),
        "directions": {direction: TITLES[direction] for direction in DIRECTIONS},
        "answers": {side: _headline(evaluation, side) for side in DIRECTIONS},
        "percent_marked": PERCENT,
        "shown_answers": ANSWERS,
        "confidence": experiment.config.evaluation.confidence,
        "metrics": _by_name(summary["metrics"]),
        "seeds": seeds["seeds"],
        "seed_metrics": _by_name(seeds["metrics"]),
        "slices": _slices(summary.get("slices", {})),
        "labels": _by_name(summary.get("labels", {}).get("metrics", {})),
        "settings": differences(Config(), run.config),
        "counts": _counts(experiment),
        "source": experiment.data.source,
        "problems": problem_counts(experiment.data.problems),
        "broken": experiment.broken_images,
        "figures": {name: _base64(contents) for name, contents in figures.items()},
        "examples": _examples(experiment, evaluation),
    }


# === Numbers ===


def _headline(evaluation: Evaluation, direction: str) -> dict[str, Any]:
    """How often the first answer is right, and one of the first 5 %, and by chance."""
    ranks = direction_ranks(evaluation, direction)
    gallery = evaluation.summary["gallery"][direction]
    places = places_of_percent(PERCENT, gallery)
    chance = chance_curve(right_answers(evaluation, direction), gallery)
    return {
        "gallery": gallery,
        "places": places,
        "first": metrics.recall_at_k(ranks, 1),
        "within": metrics.recall_at_k(ranks, places),
        "chance_first": float(chance[0]),
        "chance_within": float(chance[places - 1]),
        "median": float(np.median(ranks)),
    }


def _by_name(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`{"text_to_image/map": x}` to `{"map": {"text_to_image": x}}`.

    Without `success@K`, which is `recall@K` again.
    """
    rows: dict[str, dict[str, Any]] = {}
    for full, value in values.items():
        direction, name = full.split("/")
        if not name.startswith("success@") or name.endswith("%"):
            rows.setdefault(name, {})[direction] = value
    return rows


def _slices(slices: dict[str, Any]) -> dict[str, Any]:
    """By attribute: recall at the smallest and the largest K, the largest parts."""
    found = {}
    for attribute, parts in slices.items():
        order = sorted(parts, key=lambda p: -sum(parts[p]["queries"].values()))
        rows = {part: _by_name(parts[part]["metrics"]) for part in order[:SLICES]}
        names = [n for n in next(iter(rows.values())) if n.startswith("recall@")]
        names = list(dict.fromkeys([names[0], names[-1]]))
        left_out = len(parts) - len(rows)
        found[attribute] = {"rows": rows, "names": names, "left_out": left_out}
    return found


def _counts(experiment: Experiment) -> dict[str, tuple[int, int]]:
    """Pictures and captions of each split."""
    groups = experiment.table.groupby("split", sort=False)
    return {s: (part["image_id"].nunique(), len(part)) for s, part in groups}


def _percent(share: float) -> str:
    value = 100 * share
    whole = 10 <= value < 99.5 or value in (0, 100)  # never "100 %" for 99.7
    return f"{value:.0f}\xa0%" if whole else f"{value:.1f}\xa0%"


def _measured(value: float, name: str) -> str:
    """A metric as it stands in a table: ranks in places, all else in percent."""
    is_rank = is_median(name) or name == "mean_rank"
    return f"{value:,.1f}" if is_rank else f"{100 * value:.1f}"


def _setting(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value == "" or value == {} else str(value)


# === Examples ===


@dataclass(frozen=True)
class _Search:
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
        orders = {
            "random": np.random.default_rng(0).permutation(len(self.ranks)),
            "best": np.lexsort((-self.certainty, self.ranks)),
            "worst": np.lexsort((self.certainty, -self.ranks)),
        }
        chosen = {}
        for kind, order in orders.items():
            _, first = np.unique(self.query_pictures[order], return_index=True)
            chosen[kind] = order[np.sort(first)[: counts[kind]]]
        return chosen

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


def _examples(experiment: Experiment, evaluation: Evaluation) -> dict[str, Any]:
    """By direction and kind: queries with their answers, pictures as base64."""
    embedded = evaluation.embedded
    first = experiment.table.drop_duplicates("image_id")
    paths = dict(zip(first["image_id"], first["image_path"], strict=True))
    picture = cache(lambda row: _thumbnail(paths.get(embedded.image_ids[row])))
    caption = embedded.captions.__getitem__
    shown = {"text_to_image": (caption, picture), "image_to_text": (picture, caption)}
    found: dict[str, Any] = {}
    for direction, search in _searches(evaluation).items():
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


def _searches(evaluation: Evaluation) -> dict[str, _Search]:
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
        found[direction] = _Search(*arrays, ranks, certainty[: len(ranks)], fold)
    return found


def _thumbnail(path: str | None) -> str:
    """A picture as base64 of a small JPEG; empty if it cannot be read any more."""
    picture = open_picture(path, THUMBNAIL) if path else None
    if picture is None:
        return ""
    contents = io.BytesIO()
    picture.save(contents, "JPEG", quality=QUALITY, optimize=True)
    return _base64(contents.getvalue())


def _base64(contents: bytes) -> str:
    return base64.b64encode(contents).decode()
