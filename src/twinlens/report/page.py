"""The page of a report: what is in it; `report.html` says how it looks."""

import base64
import shutil
from datetime import datetime
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
from twinlens.report.examples import ANSWERS, examples
from twinlens.report.figures import (
    PERCENT,
    TITLES,
    chance_curve,
    direction_ranks,
    draw_figures,
    right_answers,
)
from twinlens.runs import Run

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
        "points": lambda share: f"{100 * share:+.1f}".replace("-", "−"),
        "p_value": lambda p: f"{p:.3f}" if p >= 0.001 else "under 0.001",
        "duration": duration,
    }
    return environment.get_template("report.html")


def _contents(
    run: Run, experiment: Experiment, evaluation: Evaluation, figures: dict[str, bytes]
) -> dict[str, Any]:
    summary = evaluation.summary
    trained = datetime.fromtimestamp((run.folder / "training.json").stat().st_mtime)
    seeds = _seeds(run, summary["split"])
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
        "phases": _phases(run, evaluation),
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
        "examples": examples(experiment, evaluation),
    }


# === Numbers ===


def _seeds(run: Run, split: str) -> dict[str, Any]:
    """Mean and spread over seeds, if they were measured on this split."""
    if (run.folder / "seeds.json").exists():
        seeds = run.read_json("seeds.json")
        if seeds["split"] == split:
            return seeds
    return {"seeds": [], "metrics": {}}


def _phases(run: Run, evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Phase 1 beside phase 2 by metric and direction, if this evaluation compared them.

    Each entry has `before` and `after` with intervals, `difference`, `p_value`.
    """
    if not (run.folder / "comparison.json").exists():
        return {}
    compared = run.read_json("comparison.json")
    if compared["split"] != evaluation.summary["split"]:
        return {}
    found = {}
    for row in compared["metrics"]:
        found[row["metric"]] = {
            "difference": row["difference"],
            "p_value": row["p_value"],
            **{
                name: {
                    "value": row[letter],
                    "low": row[f"{letter}_low"],
                    "high": row[f"{letter}_high"],
                }
                for name, letter in (("before", "a"), ("after", "b"))
            },
        }
    return _by_name(found)


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


def _base64(contents: bytes) -> str:
    return base64.b64encode(contents).decode()
