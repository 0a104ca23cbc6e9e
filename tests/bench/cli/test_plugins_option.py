"""Plug-ins from the command line: the documentation's two files beside a grid, and in a folder of --plugins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GRID = '''"""A backbone and a strategy of my own."""
{imports}
from bench.grid import FoldSettings, Grid, Settings, TrainSettings

GRID = Grid(
    name="mine",
    backbones=("sam_micro",),
    strategies=("bitfit",),
    settings=Settings(
        dataset="synthetic", weights="random", image_size=64, folds=FoldSettings(n_splits=2),
        train=TrainSettings(epochs=1, batch_size=2, warmup_steps=1),
    ),
    folds=(1,),
    classical=False,
)
'''


def bench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cwd)},
    )


@pytest.fixture
def methods(tmp_path: Path) -> Path:
    """The complete files that README and CONTRIBUTING show, in a folder of their own."""
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    files = dict(re.findall(r"```python\n# (registry/\S+\.py)\n(.*?)```", text, re.DOTALL))
    folder = tmp_path / "methods"
    folder.mkdir()
    for name in ("registry/backbones/sam_micro.py", "registry/strategies/bitfit.py"):
        (folder / Path(name).name).write_text(files[name])
    return folder


def test_workers_find_what_a_grid_file_imports_from_its_own_folder(methods: Path, tiny_data: Path) -> None:
    grid = methods / "mine.py"
    grid.write_text(GRID.format(imports="import bitfit\nimport sam_micro\n"))
    elsewhere = methods.parent
    results = elsewhere / "r"
    arguments = ("--grid", grid, "--data", tiny_data, "--results", results, "--device", "cpu", "--cluster", "local")
    done = bench("run", *arguments, cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 runs are done, 0 failed" in done.stdout
    (path,) = (results / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok"
    assert {Path(file).name for file in record["provenance"]["plugins"]} == {"mine.py", "bitfit.py", "sam_micro.py"}
    assert "plugins" not in record["run"]
    again = bench("retry", "--results", results, cwd=elsewhere)
    assert "every planned run is done" in again.stdout
    status = bench("status", "--results", results, cwd=elsewhere)  # without the plug-ins
    assert status.returncode == 0 and "sam_micro" in status.stdout


def test_names_of_a_folder_are_listed_shown_and_planned(methods: Path, tiny_data: Path) -> None:
    elsewhere = methods.parent
    listed = bench("list", "strategies", "--plugins", "methods", cwd=elsewhere)
    assert listed.returncode == 0 and "biases of every encoder block" in listed.stdout
    shown = bench("show", "sam_micro", "bitfit", "--plugins", methods, cwd=elsewhere)
    assert shown.returncode == 0 and "SAM micro" in shown.stdout
    grid = elsewhere / "mine.py"
    grid.write_text(GRID.format(imports=""))
    where = ("--grid", grid, "--data", tiny_data, "--results", elsewhere / "r")
    planned = bench("plan", *where, "--plugins", methods, cwd=elsewhere)
    assert planned.returncode == 0, planned.stderr
    assert "1 to do" in planned.stdout
    refused = bench("plan", *where, cwd=elsewhere)
    assert refused.returncode == 2 and "unknown backbone 'sam_micro'" in refused.stderr


def test_names_that_workers_would_not_find_refuse_the_plan(methods: Path, tiny_data: Path) -> None:
    grid = methods / "mine.py"
    grid.write_text(GRID.format(imports="import sys\nif 'bench.cli' in sys.modules:\n    import bitfit, sam_micro"))
    results = methods.parent / "r"
    done = bench("run", "--grid", grid, "--data", tiny_data, "--results", results, "--cluster", "local", cwd=methods)
    assert done.returncode == 2
    for name in ("backbone 'sam_micro'", "strategy 'bitfit'"):
        assert f"the {name} is registered in this process, but a worker would not find it" in done.stderr
    assert not results.exists()


def test_a_broken_plug_in_ends_with_its_line(methods: Path) -> None:
    (methods / "bitfit.py").write_text("from registry.strategies import regster\n")
    done = bench("list", "strategies", "--plugins", methods, cwd=methods)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: the plug-in {methods / 'bitfit.py'} can't be run: ImportError: cannot import name" in done.stderr
    assert "(line 1)" in done.stderr
