"""The structure stays visible: imports point down, modules stay short."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "twinlens"
FLOORS = [
    {
        "backend",
        "errors",
        "progress",
        "quiet",
        "writing",
        "config",
        "losses",
        "target_loss",
        "metrics",
    },
    {"data"},
    {"encoders"},
    {"heads", "token_heads", "attention", "fusion", "composed", "model"},
    {"compiled", "features", "embed", "index"},
    {
        "training",
        "evaluation",
        "runs",
        "encoding_process",
        "experiment",
        "composed_experiment",
        "zero_shot",
        "search",
        "export",
        "ratings",
    },
    {
        "catalogue",
        "cli",
        "cli_export",
        "cli_parts",
        "cli_search",
        "cli_serve",
        "commands",
        "data_commands",
        "export_commands",
        "index_commands",
        "rating_commands",
        "report",
        "search_commands",
        "serve",
        "serve_commands",
        "sweep",
        "sweep_table",
        "tables",
    },
]
MAX_LINES = 300
BACKEND_FREE = [  # run on any Keras backend
    *("losses.py", "target_loss.py", "heads.py", "token_heads.py", "attention.py"),
    *("fusion.py", "composed.py", "model.py"),
]


def floor_of(module: str) -> int:
    part = module.split(".")[1]
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


def modules() -> list[Path]:
    return [p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py"]


def name_of(path: Path) -> str:
    return ".".join(("twinlens", *path.relative_to(SOURCE).with_suffix("").parts))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def upward_imports(path: Path) -> list[str]:
    own = floor_of(name_of(path))
    inside = [i for i in imports_of(path) if i.startswith("twinlens.")]
    return [each for each in inside if floor_of(each) > own]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path):
    assert not upward_imports(path)


def test_an_upward_import_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    wrong = tmp_path / "losses.py"
    wrong.write_text("from twinlens.training import HeadTrainer\n")
    assert upward_imports(wrong) == ["twinlens.training.HeadTrainer"]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_fits_its_room(path):
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", BACKEND_FREE)
def test_the_model_knows_keras_and_no_backend(name):
    roots = {each.split(".")[0] for each in imports_of(SOURCE / name)}
    assert not roots & {"tensorflow", "jax", "torch"}


def test_nothing_imports_the_library_by_its_second_name():
    everything = [*modules(), *SOURCE.parent.glob("*.py")]
    assert not [
        p for p in everything if any("src.twinlens" in i for i in imports_of(p))
    ]


DOORS = ["train", "evaluate", "data", "sweep", "encoders", "export", "serve"]


@pytest.mark.parametrize("door", DOORS)
def test_help_answers_before_tensorflow_could_be_imported(door):
    program = f"import sys; sys.argv = ['x', '--help']; from src.{door} import *\n"
    program += f"from twinlens import cli\ntry: cli.{door}()\nexcept SystemExit: pass\n"
    program += "heavy = {'tensorflow', 'pandas', 'matplotlib'} & set(sys.modules)\n"
    program += "assert not heavy, heavy\n"
    root = SOURCE.parents[1]
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", program], cwd=root, check=True, capture_output=True
    )
    assert time.monotonic() - start < 10  # it takes a quarter of a second when idle


def test_a_clone_runs_its_own_code_before_it_is_installed():
    root = SOURCE.parents[1]
    code = "import src, twinlens; print(twinlens.__file__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()) == SOURCE / "__init__.py"
