"""Search measured by labels: against scikit-learn and NumPy, and weights chosen."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from tiny import run

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.index import create
from twinlens.search import SearchIndex, evaluate_labels, group_scores, tune
from twinlens.search.labels import systems

COUNT, DIM = 120, 8


@pytest.fixture
def index(tmp_path):
    """Pictures tell 3 of 4 labels apart, titles the fourth from the others."""
    random = np.random.default_rng(0)
    labels = np.arange(COUNT) % 4
    pictures = np.eye(DIM)[
        np.where(labels == 3, random.integers(3, size=COUNT), labels)
    ]
    titles = np.eye(DIM)[np.where(labels == 3, 3, 0)]
    noise = random.normal(size=(2, COUNT, DIM)) * 0.3
    fields = [pictures + noise[0], titles + noise[1]]
    fields = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in fields]
    items = pd.DataFrame(
        {
            "id": [f"{n:03}" for n in range(COUNT)],
            "image_path": "",
            "title": "",
            "split": np.where(np.arange(COUNT) < 40, "val", "test"),
            "kind": [f"kind {label}" for label in labels],
            "rare": [None] * (COUNT - 2) + ["x", "x"],
        }
    )
    model = {"name": "m", "digest": "", "run": "nowhere"}
    settings = IndexSettings(fields=("image", "title"))
    made = create(tmp_path / "index", {"image": DIM, "title": DIM}, settings, model)
    made.add(items, [np.concatenate(fields, axis=1).astype(np.float32)])
    return SearchIndex.load(tmp_path / "index")


def test_metrics_are_those_of_other_libraries(index):
    found = evaluate_labels(index, "kind", "test", ks=(1, 5)).set_index("system")
    assert list(found.index) == ["picture only", "title only", "both", "re-ranked"]
    inside = np.arange(COUNT) >= 40
    vectors = index.vectors.vectors[inside]
    labels = np.arange(COUNT)[inside] % 4
    parts = {"picture only": slice(0, DIM), "title only": slice(DIM, None)}
    for system, span in (parts | {"both": slice(None)}).items():
        scores = vectors[:, span] @ vectors[:, span].T
        right = labels[:, None] == labels
        others = ~np.eye(len(vectors), dtype=bool)
        precision, average = [], []
        for row in range(len(vectors)):
            mine, hits = scores[row, others[row]], right[row, others[row]]
            precision.append(hits[np.argsort(-mine)[:5]].mean())
            average.append(average_precision_score(hits, mine))
        assert found.loc[system, "precision@5"] == pytest.approx(np.mean(precision))
        assert found.loc[system, "map"] == pytest.approx(np.mean(average), abs=1e-4)
    assert pd.isna(found.loc["re-ranked", "map"])
    best = found.loc["both", "precision@5"]
    assert best > found.loc[["picture only", "title only"], "precision@5"].max()


def test_tuned_weights_are_the_best_on_val_and_are_kept(index):
    found = tune(index, "kind", "val", k=3)
    precision = found.pop("precision")
    index.vectors.note(search=found)
    again = SearchIndex.load(index.vectors.folder)
    assert again.defaults.weights == found["weights"]
    all_of = evaluate_labels(again, "kind", "val", ks=(3,)).set_index("system")
    plain = evaluate_labels(index, "kind", "val", ks=(3,)).set_index("system")
    used = "re-ranked" if found["candidates"] else "both"
    assert all_of.loc[used, "precision@3"] == pytest.approx(precision)
    assert precision >= plain["precision@3"].drop("re-ranked").max()


def test_groups_by_a_threshold_found_elsewhere(index):
    found = group_scores(index, "kind", "val", "test")
    assert 0 < found["threshold"] < 1
    assert 0.3 < found["f1"] <= 1 and 0.3 < found["f1_found_on"] <= 1


def test_mistakes_are_named(index):
    with pytest.raises(InputError, match=r"'sort' is no attribute .*kind, rare"):
        evaluate_labels(index, "sort")
    with pytest.raises(InputError, match=r"'val' .* has 0 items with 'rare'"):
        evaluate_labels(index, "rare", "val")


def test_indexes_of_other_items_are_not_compared(index, tmp_path):
    vectors = index.vectors
    other = create(tmp_path / "o", {"image": DIM}, IndexSettings(), {"run": "x"})
    other.add(vectors.items[1:], [vectors.vectors[1:, :DIM]])
    args = ("evaluate", vectors.folder, other.folder, "--label", "kind", "--split")
    said = run(*args, "val")
    assert said.code == 1 and re.search("have (39 and 40|40 and 39) items", said.err)
    assert run(*args, "test").code == 0  # the same 80 there


def test_one_field_has_no_weights_to_choose(index, tmp_path):
    vectors = index.vectors
    alone = create(tmp_path / "one", {"image": DIM}, IndexSettings(), {"run": "x"})
    alone.add(vectors.items, [vectors.vectors[:, :DIM]])
    one = SearchIndex.load(tmp_path / "one")
    assert list(systems(one)) == ["all fields"]
    with pytest.raises(InputError, match="has the field image only"):
        tune(one, "kind")


def test_the_command_writes_a_table_and_a_plot(index):
    folder = index.vectors.folder
    said = run("evaluate", folder, "--label", "kind")
    assert said.code == 0, said.err
    assert "80 items of 'test'" in said.out and "re-ranked" in said.out
    assert "(best on val) have a mean F1 of 0." in said.out
    table = pd.read_csv(folder / "labels-kind.csv")
    assert {"precision@50", "recall@30", "f1@20", "ndcg@10", "map"} <= {*table}
    with Image.open(folder / "labels-kind.png") as plot:
        assert plot.width > 1000
    tuned = run("index", "--index", folder, "--tune", "kind")
    assert tuned.code == 0 and "precision@5 of kind on val" in tuned.out
