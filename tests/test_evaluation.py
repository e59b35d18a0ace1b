"""Evaluation: known ranks to known numbers, folds, slices, labels, comparison."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from twinlens.config import Config, EvaluationSettings, override
from twinlens.data.table import CaptionData
from twinlens.errors import InputError
from twinlens.evaluation import DIRECTIONS, compare, evaluate, write_evaluation
from twinlens.evaluation.breakdown import by_label
from twinlens.experiment import Experiment
from twinlens.features import Features
from twinlens.runs import Run

PICTURES, CAPTIONS = 4, 2
OWNERS = np.repeat(np.arange(PICTURES), CAPTIONS)
TEXT = "text_to_image/"
IMAGE = "image_to_text/"
NAMES = ["recall@1", "recall@5", "success@1", "success@5", "success@50%"]
NAMES += ["mean_rank", "median_rank", "mrr", "map", "ndcg@1", "ndcg@5"]


def unit(rows, training):
    return tf.math.l2_normalize(rows, axis=-1)


HEADS = SimpleNamespace(image_head=unit, text_head=unit)
COLLAPSED = SimpleNamespace(
    image_head=lambda rows, training: unit(tf.ones_like(rows), training),
    text_head=lambda rows, training: unit(tf.ones_like(rows), training),
)


def experiment(confused_with=0, split="test", pictures=PICTURES):
    """Pictures on the axes, captions on their picture's; those of the last picture
    lie closer to another one: cosine 0.8 to it, 0.6 to their own."""
    owners = np.repeat(np.arange(pictures), CAPTIONS)
    ids = np.array([f"p{number}" for number in range(pictures)], object)
    captions = np.array([f"text {row}" for row in range(len(owners))], object)
    texts = np.eye(pictures, dtype="float32")[owners]
    if pictures == PICTURES:
        texts[OWNERS == 3] = 0.8 * np.eye(4)[confused_with] + 0.6 * np.eye(4)[3]
    table = pd.DataFrame(
        {"image_id": ids[owners], "image_path": "", "caption": captions, "split": split}
    )
    table["colour"] = np.where(owners < 3, "red", "blue")
    table["kind"] = np.where((owners == 0) | (owners == 3), "a", "b")
    made = Experiment(Config())
    fine = np.full(len(captions), "", object)
    # in place of what the settings would read and encode
    vars(made).update(
        data=CaptionData(table, [], "made up"),
        images=Features(np.eye(pictures, dtype="float32"), ids, fine[:pictures], None),
        texts=Features(texts, captions, fine, None),
    )
    return made


def settings(*overrides):
    small = ["evaluation.bootstrap_samples=100", "evaluation.ks=[1, 5]"]
    small += ["evaluation.percents=[50]"]
    return override(Config(), [*small, *overrides]).evaluation


def measured(*overrides, heads=HEADS, **world):
    return evaluate(heads, experiment(**world), settings(*overrides))


# === Numbers ===


def test_metrics_are_those_of_ranks_known_by_hand():
    found = measured()
    # six captions find their picture first, two find it second
    assert found.metric(TEXT + "recall@1") == 6 / 8
    assert found.metric(TEXT + "recall@5") == 1
    assert found.metric(TEXT + "success@50%") == 1  # two of four places
    assert found.metric(TEXT + "mrr") == (6 + 2 / 2) / 8
    assert found.metric(TEXT + "mean_rank") == (6 + 2 * 2) / 8
    assert found.metric(TEXT + "median_rank") == 1
    assert found.metric(TEXT + "ndcg@5") == pytest.approx((6 + 2 / math.log2(3)) / 8)
    # every picture has its own captions before all others
    for name in ("recall@1", "mrr", "map", "median_rank"):
        assert found.metric(IMAGE + name) == 1


def test_the_summary_has_exactly_what_evaluation_json_promises(tmp_path):
    found = measured()
    write_evaluation(Run(tmp_path), found)
    written = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert written == found.summary
    metrics = written.pop("metrics")
    assert written == {
        "split": "test",
        "protocol": "full gallery; every caption of a picture counts as right",
        "gallery": {"text_to_image": 4, "image_to_text": 8},
        "queries": {"text_to_image": 8, "image_to_text": 4},
    }
    assert set(metrics) == {side + name for side in (TEXT, IMAGE) for name in NAMES}
    for name, entry in metrics.items():
        assert set(entry) == {"value", "low", "high"}
        assert entry["low"] <= entry["value"] <= entry["high"], name
        assert name.endswith("_rank") or 0 <= entry["low"] <= entry["high"] <= 1


def test_ranks_have_one_row_a_query(tmp_path):
    found = measured()
    write_evaluation(Run(tmp_path), found)
    ranks = pd.read_parquet(tmp_path / "ranks.parquet")
    assert [p.name for p in tmp_path.glob("*.partial")] == []
    texts, images = (ranks[ranks["direction"] == side] for side in DIRECTIONS)
    assert list(ranks["direction"]) == [DIRECTIONS[0]] * 8 + [DIRECTIONS[1]] * 4
    assert list(texts["caption"]) == [f"text {row}" for row in range(8)]
    assert list(texts["image_id"]) == [f"p{owner}" for owner in OWNERS]
    assert list(texts["rank"]) == [1] * 6 + [2, 2]
    assert list(images["image_id"]) == ["p0", "p1", "p2", "p3"]
    assert set(images["caption"]) == {""} and list(images["rank"]) == [1] * 4
    assert set(texts["gallery"]) == {4} and set(images["gallery"]) == {8}


def test_collapsed_heads_find_nothing():
    found = measured(heads=COLLAPSED)
    for side in (TEXT, IMAGE):
        assert found.metric(side + "recall@1") == found.metric(side + "ndcg@1") == 0
    assert found.metric(TEXT + "mean_rank") == 4  # ties count against the model
    assert found.metric(IMAGE + "mean_rank") == 7


def test_intervals_follow_the_level_and_the_samples():
    wide, narrow = (
        measured(f"evaluation.confidence={level}").summary["metrics"][TEXT + "recall@1"]
        for level in (0.99, 0.6)
    )
    assert wide["low"] <= narrow["low"] <= 0.75 <= narrow["high"] <= wide["high"]
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]


# === Protocols ===


@pytest.mark.parametrize(
    ("confused_with", "expected"),
    [
        (0, 1.0),  # the other picture is in the other fold: no mistake is left
        (2, (1.0 + 0.5) / 2),  # it is in the same fold: that one finds half
    ],
)
def test_folds_are_searched_apart_and_averaged(confused_with, expected):
    found = measured("evaluation.fold_size=2", confused_with=confused_with)
    assert found.metric(TEXT + "recall@1") == expected
    assert found.summary["protocol"] == "mean over folds of 2 pictures"
    assert found.summary["gallery"] == {"text_to_image": 2, "image_to_text": 4}
    assert found.summary["queries"] == {"text_to_image": 8, "image_to_text": 4}


def test_one_fold_of_all_pictures_is_the_full_gallery():
    whole, fold = measured(), measured("evaluation.fold_size=4")
    assert whole.summary["metrics"] == fold.summary["metrics"]


def test_pictures_that_do_not_fill_a_fold_are_no_queries():
    found = measured("evaluation.fold_size=3")
    assert found.summary["queries"] == {"text_to_image": 6, "image_to_text": 3}
    assert "p3" not in set(found.ranks["image_id"])


def test_a_fold_larger_than_the_split_is_an_error():
    with pytest.raises(InputError, match="4 pictures cannot be cut into folds of 5"):
        measured("evaluation.fold_size=5")


# === Slices and labels ===


def test_slices_part_the_queries_and_keep_the_gallery():
    slices = measured('evaluation.slices=["colour"]').summary["slices"]
    assert list(slices) == ["colour"] and set(slices["colour"]) == {"red", "blue"}
    red, blue = slices["colour"]["red"], slices["colour"]["blue"]
    assert red["queries"] == {"text_to_image": 6, "image_to_text": 3}
    assert blue["queries"] == {"text_to_image": 2, "image_to_text": 1}
    assert red["metrics"][TEXT + "recall@1"]["value"] == 1
    assert blue["metrics"][TEXT + "recall@1"]["value"] == 0
    assert blue["metrics"][TEXT + "mean_rank"]["value"] == 2  # of the whole gallery
    assert blue["metrics"][IMAGE + "recall@1"]["value"] == 1


def test_labels_make_other_pictures_right():
    labels = measured("evaluation.label=kind").summary["labels"]
    assert labels["label"] == "kind"
    assert labels["queries"] == {"image_to_image": 4, "text_to_image": 8}
    # the captions of p3 find p0 first, which is of the same kind
    assert labels["metrics"][TEXT + "precision@1"]["value"] == 1
    # a picture's three others tie: its one of the same kind comes last
    assert labels["metrics"]["image_to_image/precision@1"]["value"] == 0


def test_pictures_without_a_label_are_like_nobody():
    vectors = np.eye(5, dtype=np.float32)[[0, 0, 1, 1, 2]]
    attributes = pd.DataFrame({"kind": ["a", "a", "", None, "b"]})
    settings = EvaluationSettings(label="kind", ks=(1,), bootstrap_samples=100)
    found = by_label(vectors, vectors, np.arange(5), attributes, settings)
    assert found["queries"] == {"image_to_image": 2, "text_to_image": 3}
    assert found["metrics"]["image_to_image/precision@1"]["value"] == 1


@pytest.mark.parametrize(
    "override", ['evaluation.slices=["size"]', "evaluation.label=size"]
)
def test_an_unknown_attribute_names_those_there_are(override):
    with pytest.raises(InputError, match="'size', which this data.*: colour, kind"):
        measured(override)


def test_a_split_of_one_picture_is_an_error_with_the_counts():
    with pytest.raises(InputError, match="'test' has 1 usable .*{'test': 1}.*split"):
        measured(pictures=1)


def test_a_split_that_is_not_there_is_an_error_with_the_counts():
    with pytest.raises(InputError, match="'val' has 0 usable .*{'test': 4}"):
        measured("evaluation.split=val")


# === Comparison ===


def test_a_run_compared_with_itself_does_not_differ():
    found = measured()
    table = compare(found, found)
    assert list(table.columns[:5]) == ["metric", "a", "b", "difference", "p_value"]
    assert list(table["metric"][:5]) == [
        TEXT + name for name in ("recall@1", "recall@5", "recall@10", "mrr", "map")
    ]
    assert len(table) == 10
    assert (table["difference"] == 0).all() and (table["p_value"] == 1).all()
    for row in table.itertuples():
        if "@10" not in row.metric:
            assert row.a == row.b == found.metric(row.metric)


def test_a_comparison_says_second_less_first():
    table = compare(measured(heads=COLLAPSED), measured()).set_index("metric")
    assert table.loc[TEXT + "recall@1", ["a", "b", "difference"]].tolist() == [
        0,
        0.75,
        0.75,
    ]
    assert 0 < table.loc[TEXT + "recall@1", "p_value"] < 1


def test_different_queries_or_galleries_are_not_compared():
    for other in (measured(pictures=3), measured("evaluation.fold_size=2")):
        with pytest.raises(InputError, match="not measured on the same queries and g"):
            compare(measured(), other)
