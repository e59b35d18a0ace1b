"""Composed retrieval through the commands, on a tiny data set in FashionIQ's layout."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from tiny import run, train

from twinlens.composed import ComposedHeads
from twinlens.composed_experiment import ComposedExperiment
from twinlens.config import load_config, to_toml
from twinlens.errors import InputError
from twinlens.report import attention_examples
from twinlens.runs import Run
from twinlens.training.phase1 import load_heads


@pytest.fixture(scope="module")
def experiment(composed_home):
    return ComposedExperiment(load_config(None, composed_home.settings))


# === Data ===


def test_data_says_what_is_there(composed_home):
    said = run("data", "fashioniq", composed_home.data, "--no-check-images")
    assert said.code == 0, said.err
    assert re.search(r"48 triplets \(\d+ train, \d+ val, 12 test\), 36 pict", said.out)
    assert "'original split', 'VAL split'" in said.out
    assert re.search(r"test\W+dress\W+4\W+4\W+", said.out)


def test_data_counts_broken_pictures(composed_home):
    said = run("data", "fashioniq", composed_home.data)
    assert said.code == 0 and "Broken pictures: 0" in said.out


def test_samples_are_drawn_of_captions_only(composed_home, tmp_path):
    said = run("data", "fashioniq", composed_home.data, "--grid", tmp_path / "x.png")
    assert said.code == 1 and "--grid" in said.err and "Traceback" not in said.err


# === The features of an experiment ===


def test_each_split_is_encoded_with_the_gallery_that_it_searches(experiment):
    data = experiment.data
    train_pictures = set(experiment.images_of("train", "").ids)
    own = data.triplets[data.triplets["split"] == "train"]
    assert train_pictures == set(own["reference_id"]) | set(own["target_id"])
    kind, test = experiment.searched("test")
    assert kind == "original split" and len(test) == 12
    assert set(test.image_ids) == set(
        data.galleries[kind].query("split=='test'").image_id
    )
    assert test.image_shape == (4, test.images.shape[-1])


def test_the_gallery_of_queries_has_nothing_but_references_and_targets(composed_home):
    settings = [*composed_home.settings, "evaluation.gallery=queries"]
    kind, test = ComposedExperiment(load_config(None, settings)).searched("test")
    assert kind == "VAL split"
    used = np.unique([test.references, test.targets])
    searched = np.concatenate(list(test.galleries.values()))
    np.testing.assert_array_equal(np.unique(searched), used)


def test_groups_are_for_training_only(experiment):
    assert len(set(experiment.pairs("train").groups)) == 3
    val = experiment.pairs("val")
    assert len(set(val.groups)) == len(val)


def test_raw_triplets_are_those_of_the_features(experiment):
    for split in ("train", "val"):
        raw, found = experiment.raw_pairs(split), experiment.pairs(split)
        assert len(raw) == len(found)
        for name in ("references", "targets"):
            one = raw.image_ids[getattr(raw, name)]
            np.testing.assert_array_equal(one, found.image_ids[getattr(found, name)])
        assert list(raw.texts[raw.text_rows]) == list(raw.table["wish"])
        for category, rows in raw.galleries.items():
            ids = found.image_ids[found.galleries[category]]
            np.testing.assert_array_equal(raw.image_ids[rows], ids)


def test_a_split_without_triplets_is_named(experiment):
    data = experiment.data
    other = ComposedExperiment(experiment.config)
    kept = data.triplets[data.triplets["split"] != "val"]
    other.__dict__["data"] = type(data)(**vars(data) | {"triplets": kept})
    with pytest.raises(InputError, match="no triplets of the split 'val'; by split"):
        other.pairs("val")


# === Phase 1 ===


@pytest.mark.slow
def test_a_run_is_trained_measured_and_reported(composed):
    names = {path.name for path in composed.folder.iterdir()}
    assert names >= {"heads.keras", "metrics.csv", "ranks.parquet", "report.html"}
    history = pd.read_csv(composed.folder / "metrics.csv")
    assert "val/composed/recall@10" in history and "val/recall_sum" in history
    found = composed.evaluation
    assert found["queries"] == {"composed": 12} and found["gallery"] == {"composed": 12}
    assert found["protocol"] == (
        "gallery: original split; wish: caption 1 and caption 2; the reference stays "
        "in the gallery"
    )
    assert set(found["categories"]) == {"dress", "shirt", "toptee"}
    assert all(part["gallery"] == 4 for part in found["categories"].values())
    assert "composed/recall@50" in found["metrics"]
    assert "48 triplets" in composed.said.out
    assert isinstance(load_heads(Run(composed.folder)), ComposedHeads)


@pytest.mark.slow
def test_the_report_shows_attention_over_the_words_of_wishes(composed):
    page = (composed.folder / "report.html").read_text("utf-8")
    assert 'id="attention"' in page and "attention" in page
    assert list((composed.folder / "figures").glob("attention*"))
    assert "dress" in page and "<script" not in page


@pytest.mark.slow
def test_evaluate_measures_again_and_in_the_gallery_of_queries(composed):
    plain = run("evaluate", composed.folder)
    assert plain.code == 0, plain.err
    again = json.loads((composed.folder / "evaluation.json").read_text("utf-8"))
    assert again == composed.evaluation
    said = run("evaluate", composed.folder, "--set", "evaluation.gallery=queries")
    assert said.code == 0, said.err
    other = json.loads((composed.folder / "evaluation.json").read_text("utf-8"))
    assert other["protocol"].startswith("gallery: VAL split")
    sizes = [part["gallery"] for part in other["categories"].values()]
    assert max(sizes) <= 4


@pytest.mark.slow
def test_two_fusions_are_compared_on_the_same_queries(composed_home, composed):
    said = train([*composed_home.settings, "name=plain", "fusion.name=sum"])
    assert said.code == 0, said.err
    other = composed_home.folder / "runs" / "plain-phase1"
    said = run("evaluate", composed.folder, other)
    assert said.code == 0, said.err
    assert "composed-phase1 and plain-phase1 on 'test', paired" in said.out
    assert "recall@10" in said.out and "randomisation test" in said.out


@pytest.mark.slow
def test_attention_is_shown_for_as_many_queries_as_are_asked_for(composed, experiment):
    heads = load_heads(Run(composed.folder))
    found = attention_examples(heads, experiment, "test", 3)
    assert len(found) == 3
    for each in found:
        assert each.over_words.shape == (4, len(each.words))
        assert each.of_places.sum() == pytest.approx(1, abs=1e-5)
    assert len(attention_examples(heads, experiment, "test", 99)) == 12  # all there are


@pytest.mark.slow
def test_the_report_of_a_fusion_without_attention_has_none(composed_home, composed):
    text = "fusion.name=text"
    said = train([*composed_home.settings, "name=text", text], report=True)
    assert said.code == 0, said.err
    page = composed_home.folder / "runs" / "text-phase1" / "report.html"
    assert 'id="attention"' not in page.read_text("utf-8")


@pytest.mark.slow
def test_one_vector_of_each_encoder_trains_too(composed_home, composed):
    """Any pair of encoders: mean-pooled pictures, TF-IDF texts."""
    settings = [
        *composed_home.settings,
        *("name=vectors", "image_encoder.pooling=avg", "image_encoder.grid=0"),
        *("text_encoder.name=tfidf", "text_encoder.pooling=auto"),
    ]
    said = train(settings, report=True)
    assert said.code == 0, said.err
    page = composed_home.folder / "runs" / "vectors-phase1" / "report.html"
    assert 'id="attention"' not in page.read_text("utf-8")


SWEEP = """
name = "fusions"
seeds = 1
metrics = ["composed/recall@1", "composed/recall@50"]
set = ["phase1.epochs=1", "evaluation.bootstrap_samples=100"]
[axes.fusion]
"""


@pytest.mark.slow
def test_one_command_compares_the_fusions(composed_home, composed, tmp_path):
    path = tmp_path / "sweep.toml"
    names = ("image", "text", "sum", "combiner", "attention")
    axes = "".join(f'{name} = ["fusion.name={name}"]\n' for name in names)
    path.write_text(SWEEP + axes)
    skipped = ("name=", "fusion.name=", "phase1.epochs=")  # an override wins
    plain = [each for each in composed_home.settings if not each.startswith(skipped)]
    said = run("sweep", path, *(part for each in plain for part in ("--set", each)))
    assert said.code == 0, said.err
    table = pd.read_csv(composed_home.folder / "runs" / "fusions-sweep" / "table.csv")
    assert list(table["fusion"]) == list(names)
    assert (table["composed/recall@50"] == 1).all()  # galleries of four pictures
    runs = [composed_home.folder / "runs" / f"fusions-{name}-phase1" for name in names]
    assert [load_heads(Run(each)).fusion.name for each in runs] == list(names)


# === Mistakes ===


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["fusion.name=''"], "gives triplets .* fusion.name=attention, combiner or"),
        (["data.reader=table"], "fusion.name is 'attention', but the reader 'table'"),
        (["data.reader=fashionq"], "no reader 'fashionq'.*Did you mean"),
        (["loss.name=sigmoid"], "composed queries learn with 'info_nce'"),
        (["fusion.together=colour"], "fusion.together is 'colour'.*category"),
        (["phase1.batch_size=512"], "split has only .* triplets. Set phase1.batch_si"),
        (["fusion.name=add"], "`fusion.name` is 'add'"),
        (["fusion.drop_image=1"], "`fusion.drop_image` is"),
        (["evaluation.gallery=all"], "`evaluation.gallery` is 'all'"),
    ],
)
def test_mistakes_end_with_a_sentence_and_status_1(composed_home, settings, message):
    refuses(composed_home, "mistaken", settings, message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluation.fold_size=5"], "are about pictures and their captions"),
        (["evaluation.slices=['size']"], "'size'"),
    ],
)
def test_mistakes_about_a_trained_run_are_named(
    composed_home, composed, settings, message
):
    refuses(composed_home, "composed", settings, message)


def refuses(home, name, settings, message):
    said = train([*home.settings, f"name={name}", *settings])
    assert said.code == 1 and said.err.startswith("Error: ")
    assert "Traceback" not in said.err
    assert re.search(message, said.err, re.DOTALL), said.err


def test_a_pair_is_measured_without_training_on_captions_only(composed_home):
    path = composed_home.folder / "config.toml"
    path.write_text(to_toml(load_config(None, composed_home.settings)), "utf-8")
    said = run("evaluate", "--zero-shot", "--config", path)
    assert said.code == 1 and "Traceback" not in said.err
    assert "'fashioniq' gives triplets" in said.err
