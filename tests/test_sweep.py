"""Sweeps: every combination once, one table, going on after an interruption."""

import pandas as pd
import pytest
from tiny import run

from twinlens.errors import InputError
from twinlens.sweep import as_markdown, combinations, read_sweep, row_of

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


def test_a_row_has_mean_and_deviation_by_hand():
    features = {"pictures": (2048, 41.5), "captions": (384, float("nan"))}
    row = row_of({"net": "A"}, features, {"recall@1": [0.25, 0.27]})
    assert row["recall@1"] == pytest.approx(0.26)
    assert row["recall@1 deviation"] == pytest.approx(0.02 / 2**0.5)
    text = as_markdown(pd.DataFrame([row]), ("recall@1",), seeds=2)
    assert text.splitlines()[0].startswith("| net | pictures: numbers | pictures a sec")
    assert text.splitlines()[2] == "| A | 2,048 | 42 | 384 |  | 26.0 ± 1.4 |"


def test_ranks_are_shown_in_places():
    row = row_of({"net": "A"}, {}, {"text_to_image/median_rank": [4.0, 6.0]})
    text = as_markdown(pd.DataFrame([row]), ("text_to_image/median_rank",), seeds=2)
    assert text.splitlines()[2] == "| A | 5.0 ± 1.4 |"


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
    kept = FILE.replace('"Info NCE" = []', "").replace("narrow =", "# narrow =")
    file.write_text(kept.replace("epochs=2", "epochs=1"))  # one combination, two seeds
    first = run("sweep", file, *given)
    assert first.code == 0, first.err
    table = pd.read_csv(tmp_path / "runs" / "tiny-sweep" / "table.csv")
    assert len(table) == 1 and table["text_to_image/recall@1"].between(0, 1).all()
    assert (table["pictures: numbers"] > 0).all()
    assert (table["pictures a second"].dropna() > 0).all()
    again = run("sweep", file, *given)
    assert again.code == 0 and again.out.count("is trained already") == 2
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
