"""The notebook runs on a results folder, calls every figure function, and is stored without outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from bench.report.plot_kinds import MODULES

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_stored_without_outputs(notebook: nbformat.NotebookNode):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}
    nbformat.validate(notebook)


def test_the_notebook_draws_every_figure(study: Path, notebook: nbformat.NotebookNode, tmp_path: Path):
    executed = notebook.copy()
    environment = {**os.environ, "BENCH_RESULTS": str(study), "PYTHONPATH": str(ROOT)}
    client = NotebookClient(executed, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment, cwd=str(tmp_path))
    drawing = {
        module: cell
        for cell in executed.cells
        if cell.cell_type == "code"
        for module in re.findall(r"^(\w+)\.draw\(", cell.source, re.MULTILINE)
    }
    # The curves of tuning are left out: most results have none, and the cell would fail.
    assert drawing.keys() == {*MODULES.values(), "ablation"} - {"tuning_curves"}
    for module, cell in drawing.items():
        assert ["image/png" in output.get("data", {}) for output in cell.outputs] == [True], module
    tables = [o for cell in executed.cells for o in cell.get("outputs", []) if "text/html" in o.get("data", {})]
    assert len(tables) == 3
    assert "lora_qv" in tables[0].data["text/html"]
    assert [
        output.get("name") for cell in executed.cells for output in cell.get("outputs", []) if "name" in output
    ] == ["stdout"]
    assert (tmp_path / "organs.pdf").read_bytes().startswith(b"%PDF")
