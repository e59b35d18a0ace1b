"""Run folders: new, gone on with, refused, set aside."""

import os

import pytest

from twinlens.config import Config, override
from twinlens.errors import InputError
from twinlens.runs import open_run, start_run, versions


@pytest.fixture
def config(tmp_path):
    return override(Config(), [f"runs={tmp_path / 'runs'}", "name=small"])


def test_a_new_run_holds_its_settings_and_its_versions(config, tmp_path):
    run = start_run(config, phase=1)
    assert (
        run.folder == tmp_path / "runs" / "small-phase1" and run.name == run.folder.name
    )
    assert run.config == config
    assert run.read_json("versions.json") == versions()
    assert not run.is_trained
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "config.toml",
        "versions.json",
    ]


def begin(config):
    """A run with one epoch behind it."""
    run = start_run(config, phase=1)
    run.write_metrics([{"epoch": 1, "loss": 2.0}])
    return run


def test_versions_name_what_a_result_depends_on():
    found = versions()
    assert found["tensorflow"].startswith("2.") and found["keras"].startswith("3.")
    assert int(found["processors"]) >= 1
    assert {"python", "machine", "numpy", "keras-hub", "twinlens"} <= found.keys()


def test_the_same_settings_go_on_with_the_same_folder(config):
    run = begin(config)
    run.write_text("checkpoint.npz", "kept")
    assert start_run(config, phase=1) == run
    assert (run.folder / "checkpoint.npz").read_text() == "kept"


def test_the_phases_have_folders_of_their_own(config):
    assert start_run(config, 1).folder != start_run(config, 2).folder


def test_other_settings_are_refused_by_name_and_value(config):
    folder = begin(config).folder
    other = override(config, ["phase1.epochs=7", "head.dropout=0.5"])
    with pytest.raises(InputError) as error:
        start_run(other, phase=1)
    text = str(error.value)
    assert f"{folder} holds a training with other settings" in text
    assert f"phase1.epochs: {config.phase1.epochs} there, 7 now" in text
    assert f"head.dropout: {config.head.dropout} there, 0.5 now" in text
    assert text.count(" there, ") == 2
    assert "--name" in text and "--restart" in text


def test_a_folder_without_an_epoch_takes_other_settings(config):
    """A first try that failed, say on too large a batch, is corrected and repeated."""
    start_run(config, phase=1)
    other = override(config, ["phase1.batch_size=32"])
    assert start_run(other, phase=1).config == other


def test_evaluation_settings_may_differ_and_the_folder_keeps_its_own(config):
    run = begin(config)
    other = override(config, ["evaluation.split=val", "evaluation.ks=[3]"])
    assert start_run(other, phase=1) == run
    assert run.config == config


def test_a_moved_runs_folder_still_is_the_same_training(config, tmp_path):
    begin(config)
    (tmp_path / "runs").rename(tmp_path / "moved")
    moved = override(config, [f"runs={tmp_path / 'moved'}"])
    assert start_run(moved, phase=1).config == config


def test_restart_keeps_every_older_folder_aside(config):
    for number in range(3):
        run = start_run(config, phase=1, restart=True)
        run.write_text("heads.keras", f"training {number}")
    names = {
        p.name: (p / "heads.keras").read_text() for p in run.folder.parent.iterdir()
    }
    assert names == {
        "small-phase1": "training 2",
        "small-phase1.old1": "training 0",
        "small-phase1.old2": "training 1",
    }


def test_restart_takes_other_settings(config):
    start_run(config, phase=1)
    other = override(config, ["phase1.epochs=7"])
    assert start_run(other, phase=1, restart=True).config == other


def test_a_run_that_is_not_there_names_those_beside_it(config, tmp_path):
    start_run(config, phase=1)
    with pytest.raises(InputError) as error:
        open_run(tmp_path / "runs" / "smal-phase1")
    assert "There is no run in" in str(error.value)
    assert "Runs beside it: small-phase1. " in str(error.value)
    with pytest.raises(InputError, match="Runs beside it: none"):
        open_run(tmp_path / "nowhere" / "x")


def test_an_unfinished_run_says_how_to_finish_it(config):
    run = start_run(config, phase=1)
    with pytest.raises(InputError, match="is not over.*Give the same train command"):
        open_run(run.folder)
    run.write_text("heads.keras", "")
    assert open_run(run.folder) == run


def test_a_run_is_found_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start_run(Config(name="small"), phase=1)
    run.write_text("heads.keras", "")
    assert open_run("small-phase1").config == Config(name="small")


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "runs").write_text("a file is in the way")
    config = override(Config(), [f"runs={tmp_path / 'runs'}"])
    with pytest.raises(InputError, match="Cannot write the run folder .*Set `runs` to"):
        start_run(config, phase=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error_in_words(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Set `runs` to a folder that can be written"):
        start_run(override(Config(), [f"runs={tmp_path / 'runs'}"]), phase=1)
    tmp_path.chmod(0o700)


def test_a_damaged_settings_file_is_an_error_in_words(config):
    run = start_run(config, phase=1)
    run.write_text("config.toml", "name = 'small'\nphase1 = {epoch = 3}\n")
    run.write_text("heads.keras", "")
    with pytest.raises(InputError, match="config.toml.*Did you mean `phase1.epochs`"):
        _ = open_run(run.folder).config


def test_history_comes_back_as_it_was_written(config):
    run = start_run(config, phase=1)
    rows = [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.25, "val/map": 0.5}]
    run.write_metrics(rows)
    found = run.history()
    assert list(found["loss"]) == [2.5, 1.25] and list(found["epoch"]) == [1, 2]
    assert found["val/map"].isna().tolist() == [True, False]


def test_a_file_is_written_whole_or_not_at_all(config, monkeypatch):
    run = start_run(config, phase=1)
    run.write_json("training.json", {"epochs": 1})
    with pytest.raises(TypeError):
        run.write_json("training.json", {"epochs": object()})
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(InputError):
        run.write_json("training.json", {"epochs": 2})
    assert run.read_json("training.json") == {"epochs": 1}
