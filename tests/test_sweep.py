"""Sweeps: every combination once, one table, going on after an interruption."""

import pandas as pd
import pytest
from tiny import run

from twinlens.errors import InputError
from twinlens.evaluation import Evaluation
from twinlens.sweep import combinations, features_key, read_sweep
from twinlens.sweep_table import (
    Row,
    as_markdown,
    best_in_words,
    best_of,
    markdown_of_tests,
    paired_tests,
)

RECALL = "text_to_image/recall@1"

FILE = """
name = "tiny"
seeds = 2
metrics = ["text_to_image/recall@1"]
set = ["phase1.epochs=2"]
[axes.heads]
narrow = ["head.embedding_dim=4"]
wide = ["head.embedding_dim=8", "head.hidden_dim=16"]
[axes."which loss"]
"Info NCE" = []
sigmoid = ["loss.name=sigmoid", "loss.temperature=0.1"]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(FILE)
    return path


def test_every_combination_comes_once_with_its_settings(file):
    found = list(combinations(read_sweep(file), file, ["seed=7"]))
    labels = [tuple(each.values()) for each, _ in found]
    heads, losses = ("narrow", "wide"), ("Info NCE", "sigmoid")
    assert labels == [(head, loss) for head in heads for loss in losses]
    names = [config.name for _, config in found]
    assert names[0] == "tiny-narrow-info_nce" and len(set(names)) == 4
    last = found[-1][1]
    assert (last.head.embedding_dim, last.loss.name) == (8, "sigmoid")
    assert (last.phase1.epochs, last.seed) == (2, 7)


def made(metric, values, features=(), watched=(), ranks=None, net="A"):
    """A combination with a value of a metric for each seed."""
    summaries = [{"split": "test", "metrics": {metric: {"value": v}}} for v in values]
    evaluations = [Evaluation(each, ranks, None) for each in summaries]
    return Row(
        f"{net}-phase1", {"net": net}, dict(features), evaluations, dict(watched)
    )


def ranked(*ranks):
    """Two captions for each picture of a gallery of ten, and their ranks."""
    return pd.DataFrame(
        {
            "direction": "text_to_image",
            "image_id": [f"p{number // 2}" for number in range(len(ranks))],
            "rank": ranks,
            "gallery": 10,
        }
    )


def test_a_row_has_mean_and_deviation_by_hand():
    features = {"pictures": (2048, 41.5), "captions": (384, float("nan"))}
    row = made(RECALL, [0.25, 0.27], features).cells((RECALL,))
    assert row[RECALL] == pytest.approx(0.26)
    assert row[f"{RECALL} deviation"] == pytest.approx(0.02 / 2**0.5)
    text = as_markdown(pd.DataFrame([row]), (RECALL,), seeds=2)
    assert text.splitlines()[0].startswith("| net | pictures: numbers | pictures a sec")
    assert text.splitlines()[2] == "| A | 2,048 | 42 | 384 |  | 26.0 ± 1.4 |"


def test_ranks_are_shown_in_places():
    name = "text_to_image/median_rank"
    table = pd.DataFrame([made(name, [4.0, 6.0]).cells((name,))])
    assert as_markdown(table, (name,), seeds=2).splitlines()[2] == "| A | 5.0 ± 1.4 |"


def test_the_best_is_chosen_on_val_and_not_by_what_is_tabled():
    a = made(RECALL, [0.9], watched={f"val/{RECALL}": [0.2, 0.3]}, net="A")
    b = made(RECALL, [0.1], watched={f"val/{RECALL}": [0.4, 0.3]}, net="B")
    assert best_of([a, b]) is b
    words = best_in_words(b, b, "test")
    assert words.startswith("Best on val by text to image recall@1: net B (35.0)")
    name = "val/text_to_image/mean_rank"
    low, high = (made(RECALL, [0.1], watched={name: [v]}) for v in (2.0, 9.0))
    assert best_of([high, low]) is low
    blind = made(RECALL, [0.9])
    assert best_of([blind]) is None
    assert best_in_words(None, blind, "test").startswith("No split val")


def test_combinations_are_tested_on_the_mean_over_seeds_of_each_query():
    """Seeds of A hit twelve pictures of twelve and none; B hits each; C misses all."""
    hit, miss = ranked(*[1] * 24), ranked(*[2] * 24)
    a = made(RECALL, [1.0, 0.0])
    a.evaluations[0] = Evaluation(a.evaluations[0].summary, hit, None)
    a.evaluations[1] = Evaluation(a.evaluations[1].summary, miss, None)
    b = made(RECALL, [1.0, 1.0], ranks=hit, net="B")
    c = made(RECALL, [0.0, 0.0], ranks=miss, net="C")
    metrics = (RECALL, "text_to_image/median_rank", "text_to_image/success@20%")
    found = paired_tests([a, b, c], b, metrics).set_index(["combination", "metric"])
    assert set(found.index.get_level_values("metric")) == {metrics[0], metrics[2]}
    assert found.loc[("net A", RECALL), "difference"] == -0.5
    assert found.loc[("net C", RECALL), "difference"] == -1.0
    assert found.loc[("net C", metrics[2]), "difference"] == 0.0  # two of ten are 20 %
    p = found.loc[
        ("net C", RECALL), "p_value"
    ]  # 2 of 4096 signs of pictures, not queries
    assert p == pytest.approx(2 / 4096, abs=6e-4)
    assert found.loc[("net C", RECALL), "p_holm"] == pytest.approx(2 * p, rel=0.6)
    assert "| net C | text to image recall@1 | -100.0 | " in markdown_of_tests(
        found.reset_index()
    )


def test_what_does_not_change_features_shares_them(file):
    config = next(combinations(read_sweep(file), file, []))[1]
    key = features_key(config)
    heads = config.model_copy(update={"seed": 5, "name": "other", "runs": "there"})
    assert features_key(heads) == key
    data = config.data.model_copy(update={"max_images": 7})
    assert features_key(config.model_copy(update={"data": data})) != key


def test_a_metric_that_is_not_measured_is_named_before_the_training(file):
    file.write_text(FILE.replace("recall@1", "recall@7"))
    with pytest.raises(InputError, match=r"recall@7.*text_to_image/recall@5, "):
        next(combinations(read_sweep(file), file, []))
    next(combinations(read_sweep(file), file, ["evaluation.ks=[7]"]))


@pytest.mark.slow
def test_a_sweep_trains_tables_and_goes_on(home, file, tmp_path):
    given = ["--set", f"runs={tmp_path / 'runs'}"]
    for each in home.settings:
        if not each.startswith(("name=", "runs=", "head.")):  # of the axes, or below
            given += ["--set", each]
    rates = (
        FILE.partition('[axes."which')[0]
        + """
[axes.rate]
slow = ["phase1.learning_rate=1e-3"]
quick = ["phase1.learning_rate=1e-2"]
"""
    )
    rates = rates.replace("narrow =", "# narrow =")
    file.write_text(rates.replace("epochs=2", "epochs=1"))  # two seeds of two
    first = run("sweep", file, *given)
    assert first.code == 0, first.err
    assert "4 runs on the same features, compiled programs: 1" in first.out
    assert "Best on val by text to image recall@1: heads wide, " in first.out
    folder = tmp_path / "runs" / "tiny-sweep"
    table = pd.read_csv(folder / "table.csv")
    assert len(table) == 2 and table["text_to_image/recall@1"].between(0, 1).all()
    assert pd.read_csv(folder / "tests.csv")["p_value"].between(0, 1).all()
    assert (table["pictures: numbers"] > 0).all()
    assert (table["pictures a second"].dropna() > 0).all()
    again = run("sweep", file, *given)
    assert again.code == 0 and again.out.count("is trained already") == 4
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 0", "seeds"),
        ("[axes.a]\nb = 3", r"axes.a.b"),
        ("colour = 1", "colour"),
        ("= 1", "no sweep file"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, text, message):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_sweep(tmp_path / "wrong.toml")
    with pytest.raises(InputError, match="There is no sweep file"):
        read_sweep(tmp_path / "none.toml")


def test_an_override_of_an_axis_is_refused(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text('[axes.heads]\nwide = ["head.hidden_dim=64"]\nplain = []\n')
    with pytest.raises(
        InputError, match="head.hidden_dim would win over the axis 'hea"
    ):
        list(combinations(read_sweep(path), path, ["head.hidden_dim = 8"]))
    assert len(list(combinations(read_sweep(path), path, ["head.depth=0"]))) == 2
