"""What the pages of all reports share: how they are written, and their numbers."""

import base64
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from twinlens.config import Config, differences
from twinlens.data.table import Problem, problem_counts
from twinlens.metrics.retrieval import is_median
from twinlens.progress import duration
from twinlens.report.pictures import score
from twinlens.runs import Run

SLICES = 25  # rows of a table by attribute; the rest is in evaluation.json


def write_page(
    run: Run, template: str, contents: dict[str, Any], figures: dict[str, bytes]
) -> Path:
    """Writes `report.html` and `figures/*.png` of a run, whole or not at all."""
    shown = {name: _base64(picture) for name, picture in figures.items()}
    page = _template(template).render(contents, figures=shown)
    _write_figures(run.folder / "figures", figures)
    run.write_text("report.html", page)
    return run.folder / "report.html"


def run_contents(
    run: Run,
    summary: dict[str, Any],
    directions: Mapping[str, str],
    source: str,
    problems: Iterable[Problem],
    broken: pd.DataFrame,
) -> dict[str, Any]:
    """What every page tells of its run.

    Args:
        run: a trained run.
        summary: of its evaluation.
        directions: titles of what was measured.
        source: of its data, in words.
        problems: of its data.
        broken: pictures that were left out, a row each.
    """
    trained = datetime.fromtimestamp((run.folder / "training.json").stat().st_mtime)
    seeds = _seeds(run, summary["split"])
    return {
        "name": run.name,
        "date": f"{trained.day} {trained:%B %Y, %H:%M}",
        "summary": summary,
        "directions": directions,
        "training": run.read_json("training.json"),
        "versions": run.read_json("versions.json"),
        "phases": _phases(run, summary["split"]),
        "seeds": seeds["seeds"],
        "seed_metrics": by_name(seeds["metrics"]),
        "settings": differences(Config(), run.config),
        "source": source,
        "problems": problem_counts(problems),
        "broken": broken,
    }


def by_name(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`{"text_to_image/map": x}` to `{"map": {"text_to_image": x}}`.

    Without `success@K`, which is `recall@K` again.
    """
    rows: dict[str, dict[str, Any]] = {}
    for full, value in values.items():
        direction, name = full.split("/")
        if not name.startswith("success@") or name.endswith("%"):
            rows.setdefault(name, {})[direction] = value
    return rows


def slice_tables(slices: dict[str, Any]) -> dict[str, Any]:
    """By attribute: recall at the smallest and the largest K, the largest parts."""
    found = {}
    for attribute, parts in slices.items():
        order = sorted(parts, key=lambda p: -sum(parts[p]["queries"].values()))
        rows = {part: by_name(parts[part]["metrics"]) for part in order[:SLICES]}
        names = [n for n in next(iter(rows.values())) if n.startswith("recall@")]
        names = list(dict.fromkeys([names[0], names[-1]]))
        left_out = len(parts) - len(rows)
        found[attribute] = {"rows": rows, "names": names, "left_out": left_out}
    return found


def _seeds(run: Run, split: str) -> dict[str, Any]:
    """Mean and spread over seeds, if they were measured on this split."""
    if (run.folder / "seeds.json").exists():
        seeds = run.read_json("seeds.json")
        if seeds["split"] == split:
            return seeds
    return {"seeds": [], "metrics": {}}


def _phases(run: Run, split: str) -> dict[str, dict[str, Any]]:
    """Phase 1 beside phase 2 by metric and direction, if this evaluation compared them.

    Each entry has `before` and `after` with intervals, `difference`, `p_value`.
    """
    if not (run.folder / "comparison.json").exists():
        return {}
    compared = run.read_json("comparison.json")
    if compared["split"] != split:
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
    return by_name(found)


# === Files and formats ===


def _write_figures(folder: Path, figures: dict[str, bytes]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, contents in figures.items():
        (partial / f"{name}.png").write_bytes(contents)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # captions are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "of_hundred": of_hundred,
        "percent": _percent,
        "measured": _measured,
        "setting": _setting,
        "score": score,
        "points": lambda share: f"{100 * share:+.1f}".replace("-", "−"),
        "p_value": lambda p: f"{p:.3f}" if p >= 0.001 else "under 0.001",
        "duration": duration,
    }
    return environment.get_template(name)


def of_hundred(share: float) -> str:
    """How many of 100: never "100" for 99.7, never "0" for a few."""
    value = 100 * share
    if 10 <= value < 99.5 or value in (0, 100):
        return f"{value:.0f}"
    if value >= 1:
        return f"{min(value, 99.9):.1f}"
    return f"{value:.1g}" if value >= 0.005 else "under 0.01"


def _percent(share: float) -> str:
    return f"{of_hundred(share)}\xa0%"


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
