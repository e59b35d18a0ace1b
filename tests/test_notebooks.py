"""The notebooks: stripped, valid, and each runs top to bottom on the scenes."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_SECONDS = 600  # a cell that takes longer hangs
OF_A_MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|usr|mnt|Users)\b|[A-Z]:\\")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(path: Path) -> list[str]:
    """The Python of each code cell; `%matplotlib` and the like become calls."""
    transform = TransformerManager().transform_cell
    cells = nbformat.read(path, as_version=4).cells
    return [transform(cell.source) for cell in cells if cell.cell_type == "code"]


def test_there_are_five_notebooks_in_order():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@each_notebook
def test_nothing_of_a_run_is_kept_in_a_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count]
    assert not [cell.id for cell in notebook.cells if cell.metadata]
    ids = [cell.id for cell in notebook.cells]
    assert ids == [f"cell-{number:02d}" for number in range(1, len(ids) + 1)]


@each_notebook
def test_a_notebook_names_no_folder_of_one_machine(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not OF_A_MACHINE.findall(cell.source)


@each_notebook
def test_every_cell_compiles_and_imports_what_is_there(path):
    import twinlens

    for code in code_of(path):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "twinlens":
                assert {name.name for name in node.names} <= set(twinlens.__all__)


@each_notebook
def test_links_between_notebooks_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+\.ipynb)\)", path.read_text("utf-8")):
        assert (path.parent / link).is_file()


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_top_to_bottom_and_draws(path, monkeypatch):
    own = str(ROOT / "src")  # its own code, wherever it runs
    monkeypatch.setenv("PYTHONPATH", own)
    monkeypatch.setenv("KAGGLEHUB_CACHE", "/nonexistent")  # no download
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=CELL_SECONDS, resources=where).execute()
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", [])]
    pictures = [each for each in outputs if "image/png" in each.get("data", {})]
    assert len(pictures) >= 4
    said = "".join(each["text"] for each in outputs if each.get("name") == "stderr")
    assert "Warning" not in said
