"""Composed queries in one stage and in two: measured, and the second one chosen."""

import json

import numpy as np
import pandas as pd
import pytest
from composed_searching import composed as composed
from fine_tuned import encoders_anew
from PIL import Image
from tiny import run

from twinlens.data.triplets import TripletData
from twinlens.errors import InputError
from twinlens.evaluation import evaluate
from twinlens.search import (
    SearchIndex,
    build_index,
    evaluate_stages,
    items_of_triplets,
    tune_stages,
)
from twinlens.search.stages import Asked, find_candidates

pytestmark = pytest.mark.slow  # a whole run and its index


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# === Ranks ===


def slow_ranks(asked, pictures, galleries, candidates, weight):
    """One query after the other, with sorted lists."""
    ranks = []
    for row, category in enumerate(asked.categories):
        gallery = [p for p in galleries[category] if p != asked.left_out[row]]
        first = {p: pictures[p] @ asked.queries[row] for p in gallery}
        order = sorted(gallery, key=lambda p: -first[p])
        near = order[:candidates]
        again = {p: first[p] + weight * pictures[p] @ asked.texts[row] for p in near}
        order = sorted(near, key=lambda p: -again[p]) + order[candidates:]
        ranks.append(1 + order.index(asked.targets[row]))
    return ranks


@pytest.mark.parametrize("candidates", [0, 1, 5, 30])
def test_ranks_are_those_of_a_slow_loop(random, candidates):
    pictures, queries, texts = (
        unit(random.normal(size=(n, 6))).astype("f") for n in (24, 40, 40)
    )
    galleries = {"a": np.arange(20), "b": np.array([23, 21, 22, 4, 5, 6])}
    categories = np.array(["a", "b"] * 20, object)
    targets = np.where(categories == "a", np.arange(40) % 20, 21)
    left_out = np.where(np.arange(40) % 3, (targets + 2) % 24, -1)  # some are outside
    asked = Asked(queries, texts, targets, left_out, categories)
    found = find_candidates(asked, pictures, galleries, max(candidates, 1))
    for weight in (0.0, 0.4, 3.0):
        expected = slow_ranks(asked, pictures, galleries, candidates, weight)
        assert found.ranks(candidates, weight).tolist() == expected


def test_a_picture_twice_counts_against_its_second_stage():
    pictures = np.eye(3, dtype="f")[[0, 0, 1]]
    queries, texts = np.array([[0.6, 0.8, 0]], "f"), np.array([[1, 0, 0]], "f")
    none = np.array([-1])
    asked = Asked(queries, texts, np.array([0]), none, np.array(["a"], object))
    found = find_candidates(asked, pictures, {"a": np.arange(3)}, 3)
    assert found.ranks(0, 0).tolist() == [3] and found.ranks(3, 1).tolist() == [2]


# === An index ===


def test_one_stage_is_the_evaluation_of_the_run(composed):
    one, _ = evaluate_stages(composed.index)
    settings = composed.experiment.config.evaluation
    there = evaluate(composed.model.heads, composed.experiment, settings)
    pd.testing.assert_frame_equal(one.ranks, there.ranks)
    said = {"protocol": f"{there.summary['protocol']}; one stage"}
    assert one.summary == there.summary | said


def test_two_stages_are_what_a_search_answers(composed):
    index = SearchIndex.load(composed.folder)
    index._model = composed.model
    index.defaults = index.settings(candidates=6, text_to_image=8.0)
    one, two = evaluate_stages(index, "test")
    assert "candidates=6, text_to_image=8" in two.summary["protocol"]
    assert (one.ranks["rank"] != two.ranks["rank"]).any()
    paths = index.vectors.items.set_index("id")["image_path"]
    for row in two.ranks.itertuples():
        found = index.search(
            row.caption, image=paths[row.image_id], k=6, where='split = "test"'
        )
        places = dict(zip(found["id"], found["rank"], strict=True))
        assert places.get(row.target_id, 99) == (row.rank if row.rank <= 6 else 99)


def test_tuning_takes_the_best_of_train_and_keeps_it(composed, monkeypatch):
    for name, value in (("CANDIDATES", (4, 8)), ("MOST", 20)):
        monkeypatch.setattr(f"twinlens.search.triplets.{name}", value)
    found = tune_stages(composed.index)
    assert found.queries == 20 and found.gallery == 16
    assert sum(found.after.values()) >= sum(found.before.values())
    assert bool(found.candidates) == (found.after != found.before)
    assert found == tune_stages(composed.index)


def test_pictures_of_several_splits_belong_to_the_first(tmp_path):
    columns = ["reference_id", "target_id", "wish", "split", "category"]
    rows = [("a", "b", "red", "test", "x"), ("c", "a", "red", "val", "x")]
    rows += [("d", "c", "red", "train", "x")]
    gallery = [("b", "train"), ("e", "val"), ("e", "train"), ("f", "test")]
    data = TripletData(
        pd.DataFrame(rows, columns=columns),
        pd.DataFrame({"image_id": list("abcdef"), "image_path": list("ABCDEF")}),
        {"all": pd.DataFrame(gallery, columns=["image_id", "split"])},
        [],
        "",
        "",
        True,
    )
    items = items_of_triplets(data).set_index("id")
    splits = dict(a="val", b="test", c="train", d="train", e="train", f="test")
    assert items["split"].to_dict() == splits
    assert items.loc["a", "image_path"] == "A" and (items["title"] == "").all()


def test_indexes_of_other_pictures_are_refused(composed, tmp_path):
    items = composed.index.vectors.items
    some = build_index(composed.model, items[items["split"] == "test"], tmp_path / "i")
    with pytest.raises(InputError, match="0 pictures of train, none of them a target"):
        tune_stages(some)
    some.remove(items["id"][items["split"] == "test"][:2])
    with pytest.raises(InputError, match="lacks 2 pictures of the galleries of 'test'"):
        evaluate_stages(some)


# === Commands ===


def test_the_commands_from_run_to_answers(composed, tmp_path):
    folder, grid = tmp_path / "index", tmp_path / "g.png"
    indexed = run("index", "--run", composed.folder, "--index", folder)
    assert indexed.code == 0, indexed.err
    assert "36 items, image, flat" in indexed.out
    path = composed.index.vectors.items["image_path"].iloc[0]
    args = ("search", folder, "make it red", "--image", path, "-k", 3)
    said = run(*args, "--grid", grid)
    assert said.code == 0, said.err
    with Image.open(grid) as drawn:
        assert drawn.width == 4 * 220
    lines = [json.loads(each) for each in run(*args, "--json").out.splitlines()]
    assert [each["rank"] for each in lines] == [1, 2, 3]
    assert {"query", "id", "score", "title", "image_path"} <= lines[0].keys()
    tuned = run("index", "--index", folder, "--tune", "triplets")
    assert tuned.code == 0, tuned.err
    assert "24 triplets of train in 16 pictures: one stage finds" in tuned.out
    noted = SearchIndex.load(folder)
    assert f"candidates = {noted.defaults.candidates}" in tuned.out
    assert "text_to_image" in noted.vectors.info["search"]
    measured = run("evaluate", folder, "--triplets")
    assert measured.code == 0, measured.err
    for words in ("one stage", "two stages", "R@50", "composed/recall@10", "paired"):
        assert words in measured.out


def test_a_fine_tuned_run_is_searched_tuned_and_measured(composed, tmp_path):
    more = [f"models={tmp_path}", "phase2.epochs=1", "phase2.batch_size=8"]
    more = [part for each in more for part in ("--set", each)]
    with encoders_anew():
        trained = run("train", "--phase", 2, *composed.settings, *more)
    assert trained.code == 0, trained.err
    folder = composed.folder.with_name("tiny-phase2")
    assert run("index", "--run", folder).code == 0
    index = SearchIndex.load(folder)
    assert index.model().digest != composed.model.digest
    one, _ = evaluate_stages(index)
    there = json.loads((folder / "evaluation.json").read_text("utf-8"))["metrics"]
    name = "composed/recall@5"
    assert one.metric(name) == pytest.approx(there[name]["value"])
    assert tune_stages(index).queries == 24
