"""Composed evaluation: categories, galleries, groups, slices, comparison, tables."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from twinlens import metrics, tables
from twinlens.config import EvaluationSettings
from twinlens.errors import InputError
from twinlens.evaluation import (
    ComposedEmbedded,
    compare,
    measure_composed,
    protocol_line,
    write_evaluation,
)
from twinlens.runs import Run

SETTINGS = EvaluationSettings(ks=(1, 2, 10, 50), bootstrap_samples=100)
PROTOCOL = protocol_line("original split", "caption 1 and caption 2", True)
# Six pictures on the axes. Dresses are rows 0 to 2, shirts rows 2 to 5: one is in both.
IDS = np.array([f"p{row}" for row in range(6)], object)
GALLERIES = {"dress": np.arange(3), "shirt": np.array([5, 4, 3, 2])}
TRIPLETS = pd.DataFrame(
    [  # the rows of a split have gaps in their index
        ("p0", "p1", "is red", "test", "dress", "colour"),
        ("p2", "p3", "is long", "test", "shirt", "length"),
        ("p0", "p2", "is long", "test", "dress", "length"),
    ],
    columns=["reference_id", "target_id", "wish", "split", "category", "kind"],
    index=[7, 3, 9],
)
# Ranks: 1 of 3; 3 of 4 behind rows 2 and 5, where the reference, row 2, is the first;
# 2 of 3 behind the reference, row 0.
QUERIES = np.array(
    [[0, 1, 0, 0, 0, 0], [0, 0, 0.8, 0.2, 0, 0.5], [0.8, 0, 0.6, 0, 0, 0]]
)
COLLAPSED = np.ones((3, 6)) / 6**0.5


def embedded(queries=QUERIES, triplets=TRIPLETS, galleries=GALLERIES, pictures=None):
    pictures = np.eye(6) if pictures is None else pictures
    return ComposedEmbedded(queries, triplets, pictures, IDS, galleries)


def measured(settings=SETTINGS, keeps_reference=True, **world):
    return measure_composed(embedded(**world), settings, PROTOCOL, keeps_reference)


def drawn(count=120, noise=1.0, categories=("a", "b"), seed=1):
    """Queries near their targets, several of each reference, in random galleries."""
    generator = np.random.default_rng(0)
    pictures = generator.standard_normal((40, 8))
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    targets = generator.integers(0, 40, count)
    errors = np.random.default_rng(seed).standard_normal((count, 8)) / 3
    queries = pictures[targets] + noise * errors
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    ids = np.array([f"p{row}" for row in range(40)], object)
    triplets = pd.DataFrame({"reference_id": ids[(targets + 1 + targets % 3) % 40]})
    triplets["target_id"], triplets["wish"] = ids[targets], "is red"
    triplets["split"] = "test"
    triplets["category"] = np.resize(categories, count)
    galleries = {category: np.arange(40) for category in categories}
    made = ComposedEmbedded(queries, triplets, pictures, ids, galleries)
    return measure_composed(made, SETTINGS, PROTOCOL, True)


@pytest.fixture
def shown(capsys, monkeypatch):
    """What a table printed: all words, and the cells of each row by the first one."""
    monkeypatch.setattr(tables.console, "width", 160)

    def of(found):
        tables.print_composed(found)
        text = capsys.readouterr().out
        rows = [line for line in text.splitlines() if line[0] in "│┃"]
        cells = [[c.strip() for c in re.split("[│┃]", row)[1:-1]] for row in rows]
        return " ".join(text.split()), {first: rest for first, *rest in cells}

    return of


# === Numbers ===


def test_ranks_are_those_known_by_hand():
    ranks = measured().ranks
    assert ranks.to_dict("list") == {
        "direction": ["composed"] * 3,
        "image_id": ["p0", "p2", "p0"],
        "target_id": ["p1", "p3", "p2"],
        "caption": ["is red", "is long", "is long"],
        "category": ["dress", "shirt", "dress"],
        "rank": [1, 3, 2],
        "average_precision": [1, 1 / 3, 1 / 2],
        "gallery": [3, 4, 3],
    }


def test_a_reference_that_is_left_out_does_not_compete():
    ranks = measured(keeps_reference=False).ranks
    assert ranks["rank"].tolist() == [1, 2, 1]
    assert ranks["gallery"].tolist() == [2, 3, 2]


def test_a_reference_from_outside_of_the_gallery_takes_nothing_away():
    triplets = TRIPLETS.assign(reference_id=["p0", "p1", "p0"])
    ranks = measured(keeps_reference=False, triplets=triplets).ranks
    assert ranks["rank"].tolist() == [1, 3, 1]
    assert ranks["gallery"].tolist() == [2, 4, 2]


def test_the_summary_is_over_queries_and_its_mean_over_categories(tmp_path):
    found = measured()
    write_evaluation(Run(tmp_path), found)
    summary = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert summary == found.summary
    assert len(pd.read_parquet(tmp_path / "ranks.parquet")) == 3
    assert summary["split"] == "test" and summary["protocol"] == PROTOCOL
    assert summary["queries"] == {"composed": 3}
    assert summary["gallery"] == {"composed": 6}  # one picture is in both galleries
    dress, shirt = summary["categories"].values()
    assert (dress["queries"], dress["gallery"]) == (2, 3)
    assert (shirt["queries"], shirt["gallery"]) == (1, 4)
    assert list(summary["categories"]) == ["dress", "shirt"]
    assert dress["metrics"]["composed/recall@1"]["value"] == 1 / 2
    assert shirt["metrics"]["composed/recall@1"]["value"] == 0
    # one query of three, but the mean of a half and nothing
    assert found.metric("composed/recall@1") == pytest.approx(1 / 3)
    assert summary["category_mean"]["composed/recall@1"] == 1 / 4
    assert found.metric("composed/precision@2") == pytest.approx((1 / 2 + 1 / 2) / 3)
    assert found.metric("composed/f1@2") == pytest.approx((2 / 3 + 2 / 3) / 3)
    assert found.metric("composed/median_rank") == 2
    assert found.metric("composed/mrr") == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    for entry in summary["metrics"].values():
        assert entry["low"] <= entry["value"] <= entry["high"]


def test_the_values_are_those_of_the_metrics():
    found = drawn()
    values = metrics.composed_values(found.ranks["rank"], 40, SETTINGS.ks)
    for name, value in metrics.summarise(values).items():
        assert found.metric(f"composed/{name}") == value, name


def test_queries_of_one_reference_are_drawn_together():
    found = drawn()
    values = metrics.composed_values(found.ranks["rank"], 40, SETTINGS.ks)
    ends = metrics.bootstrap_intervals(values, found.ranks["image_id"], 100)
    entry = found.summary["metrics"]["composed/recall@10"]
    assert (entry["low"], entry["high"]) == ends["recall@10"]


def test_a_collapsed_model_scores_zero():
    pictures = COLLAPSED[:1].repeat(6, axis=0)
    found = measured(queries=COLLAPSED, pictures=pictures)
    for name in ("recall@1", "recall@2", "precision@2", "f1@2"):
        assert found.metric(f"composed/{name}") == 0
        assert found.summary["category_mean"][f"composed/{name}"] == 0
    assert found.ranks["rank"].tolist() == [3, 4, 3]


def test_a_picture_that_is_twice_in_a_gallery_competes_once():
    twice = {name: np.concatenate([rows, rows]) for name, rows in GALLERIES.items()}
    assert measured(galleries=twice).summary == measured().summary


def test_slices_part_the_queries_by_an_attribute_of_the_triplets():
    settings = SETTINGS.model_copy(update={"slices": ("kind",)})
    slices = measured(settings).summary["slices"]["kind"]
    assert set(slices) == {"colour", "length"}
    assert slices["colour"]["queries"] == {"composed": 1}
    assert slices["length"]["queries"] == {"composed": 2}
    assert slices["colour"]["metrics"]["composed/recall@1"]["value"] == 1
    assert slices["length"]["metrics"]["composed/mean_rank"]["value"] == 2.5


@pytest.mark.parametrize(
    ("keeps", "words"), [(True, "stays in the gallery"), (False, "is left out")]
)
def test_the_protocol_names_gallery_wish_and_reference(keeps, words):
    assert protocol_line("VAL split", "caption 1", keeps) == (
        f"gallery: VAL split; wish: caption 1; the reference {words}"
    )


# === Errors ===


@pytest.mark.parametrize(
    ("world", "message"),
    [
        (
            {"triplets": TRIPLETS.assign(target_id=["p1", "p0", "p9"])},
            "1 targets are not in the gallery of 'dress' with its 3 pictures, the "
            "first is 'p9' of the reference 'p0'",
        ),
        (
            {"galleries": {"dress": np.arange(3)}},
            "no gallery for the category shirt; there are galleries for dress",
        ),
        ({"triplets": TRIPLETS[:0], "queries": QUERIES[:0]}, "'test' has 0 triplets"),
        ({"queries": QUERIES[:2]}, "has 3 triplets and 2 query vectors"),
        (
            {"settings": SETTINGS.model_copy(update={"slices": ("size",)})},
            "evaluation.slices names 'size', .* Its attributes: category, kind",
        ),
        (
            {"settings": SETTINGS.model_copy(update={"fold_size": 2})},
            "evaluation.fold_size and evaluation.label are about pictures",
        ),
        (
            {
                "keeps_reference": False,
                "triplets": TRIPLETS.assign(reference_id=["p0", "p3", "p0"]),
            },
            "1 queries leave out their own target",
        ),
    ],
)
def test_bad_input_is_named(world, message):
    with pytest.raises(InputError, match=message):
        measured(**world)


# === Comparison ===


def test_two_models_are_compared_on_what_was_measured():
    worse, better = drawn(noise=3), drawn(noise=1)
    table = compare(worse, better).set_index("metric")
    # recall@5 is not among the ks
    names = ["recall@1", "recall@10", "recall@50", "mrr"]
    assert list(table.index) == [f"composed/{name}" for name in names]
    for name, row in table.iterrows():
        assert row["a"] == pytest.approx(worse.metric(name))
        assert row["b"] == pytest.approx(better.metric(name))
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        assert row["a_low"] <= row["a"] <= row["a_high"]
    assert table.loc["composed/mrr", "p_value"] < 0.01
    assert table.loc["composed/recall@50", "p_value"] == 1  # of 40 pictures: all found


def test_the_paired_test_flips_the_queries_of_a_reference_together():
    a, b = drawn(noise=2), drawn(noise=1.8, seed=2)
    row = compare(a, b).set_index("metric").loc["composed/mrr"]
    sides = [1 / each.ranks["rank"].to_numpy() for each in (b, a)]
    _, together = metrics.paired_randomisation_test(*sides, a.ranks["image_id"])
    _, apart = metrics.paired_randomisation_test(*sides)
    assert row["p_value"] == together != apart


@pytest.mark.parametrize(
    "other",
    [
        {"keeps_reference": False},
        {"triplets": TRIPLETS.assign(target_id=["p2", "p3", "p2"])},
    ],
)
def test_other_galleries_or_targets_are_not_compared(other):
    with pytest.raises(InputError, match="not measured on the same queries and g"):
        compare(measured(), measured(**other))


# === Tables ===


def test_the_table_has_a_row_for_each_category_and_their_mean(shown):
    text, rows = shown([measured()])
    assert text.startswith(f"test: {PROTOCOL}") and "all 3 queries" in text
    assert rows["category"] == ["queries", "gallery", "R@1", "R@2", "R@10", "R@50"]
    # both queries of dresses have one reference, so they are always drawn together
    half, full = "50.0 [50.0, 50.0]", "100.0 [100.0, 100.0]"
    assert rows["dress"] == ["2", "3", half, full, full, full]
    assert rows["shirt"] == ["1", "4", *["0.0 [0.0, 0.0]"] * 2, full, full]
    assert rows["mean"] == ["", "", "25.0", "50.0", "100.0", "100.0"]
    assert rows["K"] == ["recall", "precision", "F1"]
    # two of three are found within two places: 2/3, a half of it, 2 · 1 / 3 of them
    assert [cell.split()[0] for cell in rows["2"]] == ["66.7", "33.3", "44.4"]
    assert [cell.split()[0] for cell in rows["50"]] == ["100.0", "2.0", "3.9"]
    assert "In percent; bootstrap interval." in text


def test_over_seeds_a_cell_is_a_mean_and_its_deviation(shown):
    better = QUERIES.copy()
    better[1:] = np.eye(6)[[3, 2]]  # every target is first
    text, rows = shown([measured(), measured(queries=better)])
    assert rows["dress"][2] == "75.0 ± 35.4"  # of 50 and 100
    assert rows["shirt"][2] == "50.0 ± 70.7"  # of 0 and 100
    assert rows["mean"][2] == "62.5 ± 53.0"  # of 25 and 100
    assert rows["1"][1] == "66.7 ± 47.1"  # of 1/3 and 1
    assert "mean ± deviation over seeds" in text


def test_one_category_needs_no_mean(shown):
    _, rows = shown([drawn(categories=("all",))])
    assert "all" in rows and "mean" not in rows


def test_the_table_of_metrics_is_that_of_composed_queries(capsys):
    tables.print_composed([measured()])
    expected = capsys.readouterr().out
    tables.print_metrics([measured()])
    text = capsys.readouterr().out
    assert text == expected and "text to image" not in text
