"""The notebooks run from the first cell to the last, and keep the outputs of such a run."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    notebook = json.loads(request.param.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_a_notebook_runs(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = {}
    for number, cell in enumerate(cells, start=1):
        # Preparing lite-fast takes longer than all else here.
        code = "".join(cell["source"]).replace('"lite-fast"', '"fake"')
        exec(compile(code, f"cell {number}", "exec"), names)


def test_a_notebook_was_run_in_order(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["few_photos", "why_and_how_sure"]
