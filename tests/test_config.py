"""Settings: differences only, unknown ones named with the nearest right one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.config import (
    Config,
    config_from,
    differences,
    load_config,
    override,
    to_toml,
)
from twinlens.errors import InputError


def error_of(*overrides):
    with pytest.raises(InputError) as caught:
        load_config(None, list(overrides))
    return str(caught.value)


def test_without_a_file_the_built_in_scenes_are_trained():
    config = load_config()
    assert (config.data.reader, config.image_encoder.weights) == ("scenes", "none")


def test_a_file_changes_only_what_it_names(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[phase1]\nepochs = 3\n')
    config = load_config(path)
    assert differences(Config(), config) == {
        "name": ("experiment", "mine"),
        "phase1.epochs": (Config().phase1.epochs, 3),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.path=../here/it is", "../here/it is"),
        ('data.path="quoted"', "quoted"),
        ("name=7", "7"),
    ],
)
def test_an_override_needs_no_quotes(text, value):
    config = load_config(None, [text])
    assert value in (config.data.path, config.name)


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[phase1]\nepochs = 3\n")
    config = load_config(path, ["phase1.epochs=4", "phase1.epochs=5"])
    assert config.phase1.epochs == 5
    assert override(config, ["phase1.epochs=6"]).phase1.epochs == 6


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("phase1.bach_size=3", "`phase1.batch_size`"),
        (
            "batch_size=3",
            "`cache.batch_size` or `phase1.batch_size` or `phase2.batch_size`",
        ),
        ("fase1.epochs=3", "`phase1`"),
        ("image_encoder.wieghts=none", "`image_encoder.weights`"),
    ],
)
def test_an_unknown_setting_names_the_nearest_right_one(wrong, right):
    assert f"Did you mean {right}?" in error_of(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("phase1.batch_size=many", "`phase1.batch_size` is 'many'"),
        ("phase1.batch_size=1", "greater than or equal to 2"),
        ("loss.name=hinge", "'info_nce', 'supervised', 'sigmoid'"),
        ("phase1.learning_rate=nan", "finite"),
        ("phase1.epochs", "has no value"),
        ("name.first=x", "`name` is not a section"),
    ],
)
def test_a_wrong_value_says_what_was_passed_and_expected(wrong, said):
    assert said in error_of(wrong)


def test_a_missing_file_names_those_beside_it(tmp_path):
    (tmp_path / "other.toml").write_text("")
    with pytest.raises(InputError, match=r"other\.toml"):
        load_config(tmp_path / "mine.toml")


def test_a_file_that_is_no_toml_names_the_place(tmp_path):
    (tmp_path / "mine.toml").write_text("name = \n")
    with pytest.raises(InputError, match="line 1"):
        load_config(tmp_path / "mine.toml")


def test_resolved_settings_read_back_the_same(tmp_path):
    config = load_config(None, ["phase1.epochs=9", 'image_encoder.layer=["a", "b"]'])
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config


def test_every_setting_is_explained_in_the_resolved_file():
    lines = to_toml(Config()).splitlines()
    settings = [line for line in lines if "=" in line.split("#")[0]]
    assert settings and all("# " in line for line in settings)


def test_defaults_are_valid_settings():
    assert config_from(Config().model_dump(), "defaults") == Config()


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override_is_taken_or_refused_in_words(name, value):
    try:
        load_config(None, [f"{name}={value}"])
    except InputError as error:
        assert str(error)
