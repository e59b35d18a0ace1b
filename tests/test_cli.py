"""The commands from end to end, on drawn pictures and the smallest encoders."""

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image
from tiny import draw_data, run, train

from twinlens.config import load_config

METRICS = ("recall@1", "success@5%", "median_rank", "mrr", "map", "ndcg@10")


@pytest.fixture(scope="module")
def two_seeds(home, trained):
    """The first of two seeds is trained already."""
    heads = (trained.folder / "heads.keras").read_bytes()
    said = train(home.settings, "--seeds", 2)
    assert said.code == 0, said.err
    assert (trained.folder / "heads.keras").read_bytes() == heads
    return SimpleNamespace(said=said, other=home.folder / "runs/tiny-seed1-phase1")


# === Train ===


def test_training_leaves_a_whole_run_folder(trained):
    assert {path.name for path in trained.folder.iterdir()} >= {
        *("config.toml", "versions.json", "metrics.csv", "training.json"),
        *("evaluation.json", "ranks.parquet", "report.html", "figures"),
        *("heads.keras", "broken_images.csv", "tensorboard"),
    }
    assert list(trained.folder.glob("tensorboard/events*"))
    assert not list(trained.folder.rglob("*partial*"))


def test_the_run_folder_tells_how_training_went(home, trained):
    config = load_config(trained.folder / "config.toml")
    assert config == load_config(None, home.settings)
    history = pd.read_csv(trained.folder / "metrics.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert "val/text_to_image/recall@1" in history
    assert trained.evaluation["split"] == "test"
    assert trained.evaluation["queries"] == {"text_to_image": 12, "image_to_text": 6}
    ranks = pd.read_parquet(trained.folder / "ranks.parquet")
    assert len(ranks) == 18
    assert "tiny" in (trained.folder / "report.html").read_text("utf-8")


def test_training_says_what_it_reads_and_what_it_found(trained):
    out = trained.said.out
    assert "25 pictures (13 train, 6 val, 6 test), 49 captions" in out
    assert "Trained 6 epochs in " in out and f"Report: {trained.folder}" in out
    assert "12 in 6" in out and "6 in 12" in out  # queries in gallery
    assert all(name in out for name in METRICS)


def test_a_broken_picture_is_left_out_counted_and_listed(trained):
    assert "Broken pictures left out: 1, listed in " in trained.said.out
    broken = pd.read_csv(trained.folder / "broken_images.csv")
    assert list(broken["image_id"]) == ["broken.png"]
    assert "broken.png" in broken["reason"][0]


def test_too_many_broken_pictures_stop_the_job_with_their_list(home):
    strict = [*home.settings, "name=strict", "data.max_broken_fraction=0.01"]
    said = train(strict)
    assert said.code == 1 and "Traceback" not in said.err
    assert "1 of 25 pictures are broken, more than" in said.err
    assert "data.max_broken_fraction = 0.01" in said.err
    assert str(home.folder / "data" / "broken.png") in said.err
    assert not list(home.folder.glob("runs/strict*/heads.keras"))


def test_a_second_call_does_not_train_again(trained, two_seeds):
    assert f"{trained.folder} is trained already; --restart" in two_seeds.said.out
    assert two_seeds.said.out.count("Trained 6 epochs") == 1  # the second seed


def test_other_settings_are_refused(home, trained):
    said = train([*home.settings, "phase1.epochs=7"])
    assert said.code == 1 and "phase1.epochs: 6 there, 7 now" in said.err


def test_seeds_are_summed_up_beside_the_first_run(trained, two_seeds):
    seeds = json.loads((trained.folder / "seeds.json").read_text("utf-8"))
    assert seeds["seeds"] == [0, 1]
    assert seeds["runs"] == ["tiny-phase1", "tiny-seed1-phase1"]
    for name, entry in seeds["metrics"].items():
        a, b = entry["values"]
        assert a == trained.evaluation["metrics"][name]["value"]
        assert entry["mean"] == pytest.approx((a + b) / 2)
        assert entry["std"] == pytest.approx(abs(a - b) / 2**0.5)
    assert load_config(two_seeds.other / "config.toml").seed == 1
    assert "mean ± deviation over seeds" in two_seeds.said.out


def test_settings_are_printed_without_training(home):
    said = train([*home.settings, "name=other"], "--settings")
    assert said.code == 0 and 'name = "other"' in said.out
    assert not list(home.folder.glob("runs/other*"))


# === Evaluate ===


def test_a_run_is_measured_on_another_split(trained):
    said = run("evaluate", trained.folder, "--split", "val")
    found = json.loads((trained.folder / "evaluation.json").read_text("utf-8"))
    assert said.code == 0 and found["split"] == "val"
    assert "val: full gallery" in said.out and "12 in 6" in said.out
    assert load_config(trained.folder / "config.toml").evaluation.split == "test"


def test_two_runs_are_compared_on_the_same_queries(trained, two_seeds):
    said = run("evaluate", trained.folder, two_seeds.other)
    assert said.code == 0
    assert "tiny-phase1 and tiny-seed1-phase1 on 'test', paired" in said.out
    assert "paired randomisation test" in said.out and "recall@10" in said.out


def test_a_run_that_is_not_there_is_an_error(trained):
    said = run("evaluate", trained.folder.parent / "nothing")
    assert said.code == 1 and "Runs beside it: " in said.err
    assert "tiny-phase1" in said.err and "Traceback" not in said.err


# === Data ===


def test_data_says_what_is_there_and_what_is_wrong(home, tmp_path):
    data = draw_data(tmp_path / "data")
    twin = Image.open(data.parent / "00.png").resize((78, 78))  # leaks into test
    twin.save(data.parent / "twin.png")
    (data.parent / "empty.png").write_bytes(b"")
    with open(data, "a") as file:
        file.write("twin.png,the first again,test,red,disc\n")
        file.write("empty.png,no bytes,train,red,disc\n")
        file.write("00.png,,train,red,disc\n")
        file.write("missing.png,nowhere,train,red,disc\n")
    said = run("data", "table", data, "--grid", tmp_path / "grid.png")
    assert said.code == 0, said.err
    assert "26 pictures (13 train, 6 val, 7 test), 50 captions" in said.out
    assert "Left out: " in said.out and "captions.csv, row 52: " in said.out
    assert "missing.png" in said.out and "Attributes: colour, shape" in said.out
    assert "Broken pictures: 1" in said.out and "empty.png" in said.out
    assert "twin.png (test) and 00.png (train)" in said.out
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 300


# === Mistakes ===


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.path=/no/such/folder"], "/no/such/folder"),
        (["data.reader=tabel"], "no reader 'tabel'.*Did you mean 'table'"),
        (["phase1.batchsize=4"], "Unknown setting `phase1.batchsize`. Did you mean"),
        (["phase1.batch_size=512"], "split has only 12 pictures. Set phase1.batch_si"),
        (["image_encoder.pooling=tokens"], "these heads take one vector"),
        (["phase1.epochs=many"], "`phase1.epochs` is 'many'"),
        (["phase1.epochs"], "'phase1.epochs' has no value"),
        (["evaluation.slices=['size']"], "'size', which this data set does not have"),
    ],
)
def test_mistakes_end_with_a_sentence_and_status_1(home, trained, settings, message):
    name = "tiny" if "evaluation" in settings[0] else "mistaken"
    said = train([*home.settings, f"name={name}", *settings])
    assert said.code == 1 and said.err.startswith("Error: ")
    assert "Traceback" not in said.err and "encoding" not in said.err
    assert re.search(message, said.err, re.DOTALL), said.err


def test_a_phase_that_is_not_there_is_an_error():
    said = run("train", "--phase", 3)
    assert said.code == 2 and "less than or equal to 2" in said.err


def test_a_missing_argument_is_a_usage_error():
    said = run("train")
    assert said.code == 2 and "Missing option '--phase'" in said.err


# === The real data ===


@pytest.mark.slow
@pytest.mark.real
def test_real_pictures_train_with_real_weights(shared, tmp_path):
    weights = shared / "models"
    settings = [
        *("name=real", f"runs={tmp_path / 'runs'}", f"cache.path={tmp_path / 'cache'}"),
        *("data.reader=flickr8k", f"data.path={shared / 'data' / 'flickr8k'}"),
        *("data.max_images=60", "evaluation.split=val", "phase1.epochs=5"),
        f"image_encoder.weights={weights / 'inception_v3_through_mixed8.weights.h5'}",
        *("image_encoder.layer=mixed8", "image_encoder.image_size=75"),
        f"text_encoder.weights={weights / 'minilm_l6'}",
        *("phase1.batch_size=32", "evaluation.bootstrap_samples=100"),
    ]
    said = train(settings)
    assert said.code == 0, said.err
    history = pd.read_csv(tmp_path / "runs" / "real-phase1" / "metrics.csv")
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
