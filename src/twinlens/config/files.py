"""Settings from and to TOML; experiment files hold only differences.

`load_config` reads a TOML file of differences, applies `--set` overrides, and
refuses what it does not know by naming the nearest right setting. `to_toml`
writes the resolved settings back, each with its explanation as a comment.
"""

import difflib
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from twinlens.config.settings import Config, Section
from twinlens.errors import InputError

BUILT_IN = Path(__file__).with_name("scenes.toml")  # the experiment without --config


def load_config(path: str | Path | None = None, overrides: list[str] = ()) -> Config:
    """Settings of an experiment: defaults, then the file, then the overrides.

    Args:
        path: TOML file of differences from the defaults; `None` takes the
            built-in experiment.
        overrides: `"section.setting=value"` each; the value as in TOML, quotes
            may be left away.

    Raises:
        InputError: the file is missing or not TOML; a setting is unknown (the
            nearest right one is named) or has a wrong value.
    """
    path = Path(path) if path is not None else BUILT_IN
    values = _read_toml(path)
    for text in overrides:
        _apply(values, text)
    return config_from(values, str(path))


def override(config: Config, overrides: list[str]) -> Config:
    """The same settings with some overridden, each `"section.setting=value"`."""
    values = config.model_dump()
    for text in overrides:
        _apply(values, text)
    return config_from(values, "--set")


def config_from(values: dict[str, Any], source: str) -> Config:
    """Checked settings from nested plain values; `source` is named in errors."""
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise InputError(f"{source}: " + "\n".join(lines)) from None
    name, positives = config.loss.name, config.loss.positives
    if (name == "supervised") != bool(positives):
        raise InputError(
            f"{source}: loss.name is {name!r}, but loss.positives is {positives!r}. "
            "Pairs of one label are right answers with both loss.name='supervised' "
            "and loss.positives=ATTRIBUTE; set the other one too, or neither."
        )
    return config


def to_toml(config: Config) -> str:
    """The settings as TOML, each with its explanation as a comment."""
    document = tomlkit.document()
    _add_settings(document, config)
    return tomlkit.dumps(document)


def differences(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: dotted name to the values in `a` and `b`."""
    flat_a, flat_b = _flat(a.model_dump()), _flat(b.model_dump())
    names = sorted(flat_a.keys() | flat_b.keys())
    pairs = {name: (flat_a.get(name), flat_b.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        near = ", ".join(sorted(map(str, path.parent.glob("*.toml")))) or "none"
        raise InputError(
            f"There is no experiment file {path}. Files there: {near}. "
            "Leave --config away for the built-in experiment."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the experiment file {path}: {error}") from None
    try:
        return tomlkit.parse(text).unwrap()
    except tomlkit.exceptions.ParseError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise InputError(
            f"--set {override!r} has no value. "
            "Expected section.setting=value, for example phase1.batch_size=512."
        )
    *sections, last = name.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override!r}: `{section}` is not a section.")
    values[last] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomlkit.parse(f"value = {text}").unwrap()["value"]
    except tomlkit.exceptions.ParseError:
        return text  # a path or a word without quotes


def _explain(problem: Any) -> str:
    names = [str(part) for part in problem["loc"]]
    name = ".".join(names)
    if not name and problem["type"] == "value_error":  # of several settings together
        return f"{problem['ctx']['error']}."
    if problem["type"] == "extra_forbidden":
        hint = " or ".join(f"`{right}`" for right in _nearest(name))
        return f"Unknown setting `{name}`." + (f" Did you mean {hint}?" if hint else "")
    return f"`{name}` is {problem['input']!r}: {problem['msg']}."


def _nearest(name: str) -> list[str]:
    """Settings of that very name in other sections, else the most similar one."""
    known = list(_flat(Config().model_dump()))
    last = name.split(".")[-1]
    elsewhere = [each for each in known if each.split(".")[-1] == last]
    sections = list(Config.model_fields)
    return elsewhere or difflib.get_close_matches(name, known + sections, 1, 0.4)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and name in Config.model_fields:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _add_settings(container: Any, section: Section) -> None:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            table = tomlkit.table()
            table.comment((type(value).__doc__ or "").splitlines()[0])
            _add_settings(table, value)
            container.add(name, table)
        else:
            item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
            if not isinstance(value, dict):
                item.comment(field.description)
            container.add(name, item)
