import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from composed_queries import (
    QUERIES,
    attention_of,
    draw_pictures,
    evaluation_of,
)
from PIL import Image

from twinlens.config import load_config, override
from twinlens.data.table import Problem
from twinlens.report import write_composed_report
from twinlens.report.composed_page import composed_chance
from twinlens.report.page_parts import of_hundred
from twinlens.runs import start_run

HISTORY = [
    {"epoch": i + 1, "loss": 4 / (i + 1), "val/composed/recall@10": 0.1 * i}
    for i in range(4)
]


def write(folder, evaluation=None, history=HISTORY, files=(), **others):
    config = override(load_config(), [f"runs={folder}", "phase1.batch_size=64"])
    run = start_run(config, phase=1)
    run.write_metrics(history)
    training = {"epochs": 4, "kept_epoch": 3, "seconds": 75.0}
    run.write_json("training.json", training)
    for name, contents in files:
        run.write_json(name, contents)
    options = {
        "config": config,
        "counts": {"test": {"triplets": 1234, "pictures": 9}},
        "source": "fashioniq reader, somewhere",
        "problems": [Problem("no such picture", "cap.json, entry 3", "B0")],
        "broken": pd.DataFrame({"image_id": ["p99"]}),
        "paths": draw_pictures(folder),
        "keeps_reference": True,
    }
    path = write_composed_report(run, evaluation or evaluation_of(), **options | others)
    return path.read_text("utf-8"), run.folder / "figures"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composed")
    attention = [attention_of(draw_pictures(folder)["p1"])]
    row = {"metric": "composed/recall@1", "a": 0.111, "b": 0.444, "p_value": 0.0123}
    row |= {f"{x}_{end}": 0.2 for x in "ab" for end in ("low", "high")}
    compared = {"split": "test", "metrics": [row | {"difference": 0.333}]}
    seeds = {"composed/recall@1": {"mean": 0.5, "std": 0.0123, "values": [0.4, 0.6]}}
    seeds = {"seeds": [0, 1], "split": "test", "metrics": seeds}
    files = ("comparison.json", compared), ("seeds.json", seeds)
    page, figures = write(folder, files=files, attention=attention)
    return SimpleNamespace(page=page, figures=figures)


def section(page, name):
    part = page.split(f'<section id="{name}">')[1].split("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", part).split())


# === The page ===


def test_the_first_sentence_says_how_often_the_target_is_first_and_by_chance(report):
    lead = re.search(r'class="lead">(.*?)</p>\s*<p[^>]*>(.*?)</p>', report.page, re.S)
    assert "<strong>40</strong> of 100 queries the first" in lead[1]
    assert "<strong>100</strong> it is among the first 10" in lead[1]
    assert "By chance it would be 18 and 100 of 100" in lead[2]  # (4 / 6 + 1 / 4) / 5
    assert "5 of them each search 4 to 6 pictures" in lead[2]
    assert "gallery: original split; wish: both; the reference stays" in report.page


def test_the_table_has_recall_precision_and_f1_of_each_k(report):
    text = section(report.page, "metrics")
    assert "1 40.0 20.0–80.0 40.0 20.0–80.0 40.0 20.0–80.0" in text
    assert "10 100.0 50.0–100.0 10.0 5.0–20.0 18.2 9.1–36.4" in text
    assert "median_rank 2.0" in text
    assert "map" not in text  # mrr again
    assert "50.0 ± 1.2" in text


def test_categories_stand_with_their_mean_and_what_papers_compare(report):
    text = section(report.page, "categories")
    assert "dress 4 6 25.0 12.5–50.0 100.0" in text
    assert "shirt 1 4 100.0 50.0–100.0" in text
    assert "mean 62.5 100.0 100.0 1.5 100.0" in text  # (25 + 100) / 2 of recall@1


def test_one_category_without_validation_attention_and_files_makes_a_report(tmp_path):
    chosen = evaluation_of(QUERIES[:2], ranks=[2, 6])
    history = [{"epoch": 1, "loss": 2.0}]
    page, figures = write(tmp_path, chosen, history, paths={"p3": "gone.jpg"})
    assert "picture not found" in page
    assert 'id="categories"' not in page
    assert 'id="attention"' not in page
    assert "dress ·" not in page
    names = {path.stem for path in figures.iterdir()}
    assert names == {"loss", "loss-dark", "success", "success-dark", "examples"}


def test_a_wish_cannot_run_as_a_script_and_the_page_needs_no_other_file(report):
    assert "<script" not in report.page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; costs" in report.page
    links = re.findall(r'(?:src|srcset|href|data)\s*=\s*"([^"]*)"', report.page)
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"https?://|url\(|@import|<link", report.page)


def test_an_example_marks_the_target_and_the_reference_found_again(report):
    article = next(a for a in report.page.split("<article")[1:] if "alert" in a)
    marks = re.findall(r"<figure(?: class=\"([\w -]+)\")?>", article)
    assert marks == ["is-asked", "is-reference", "is-right", *[""] * 3] + [
        "is-right is-target"
    ]
    assert "target at rank 2 of 6" in article


def test_phases_settings_data_and_versions_are_told(report):
    text = section(report.page, "phases")
    assert "recall@1 11.1 20.0–20.0 44.4 20.0–20.0 +33.3 0.012" in text
    text = section(report.page, "run")
    for part in ("phase1.batch_size 64 256", "test 1,234 9", "no such picture 1"):
        assert part in text
    assert "tensorflow-text" in text


def test_every_figure_shows_something(report):
    names = ["loss", "recall", "success", "attention"]
    files = {path.stem: path for path in report.figures.iterdir()}
    assert set(files) == {n + t for n in names for t in ("", "-dark")} | {"examples"}
    for path in files.values():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(10**7)) > 20


def test_chance_is_the_mean_over_the_galleries_of_the_queries():
    expected = [(1 / 2 + 1 / 4) / 2, (1 + 2 / 4) / 2, (1 + 3 / 4) / 2, 1]
    np.testing.assert_allclose(composed_chance(np.array([2, 4])), expected)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, "0"), (1, "100"), (0.9996, "99.9"), (0.427, "43"), (0.0416, "4.2")]
    + [(0.00021, "0.02"), (0.00001, "under 0.01")],
)
def test_shares_are_never_rounded_to_all_or_none(share, expected):
    assert of_hundred(share) == expected
