"""The arrows of the design, read from the source: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "peft", "segment_anything", "submitit"}
LIGHT = (
    "cli",
    "errors",
    "grid",
    "plan",
    "cluster",
    "folds",
    "record",
    "collate",
    "section",
    "leaderboard",
    "axis",
    "table",
    "plot",
    "report",
    "live",
    "claim",
    "progress",
    "index",
    "foldwise",
    "ledger",
    "manifest",
    "slurm",
    "retry",
    "status",
    "state",
    "board",
    "panel",
    "columns",
    "variant",
    "logs",
    "cancel",
    "campaign",
    "launch",
    "arrays",
    "estimate",
    "costs",
    "bill",
    "need",
    "measured",
    "count",
    "rehearsal",
    "cli_jobs",
    "cli_files",
    "terminal",
    "runlog",
    "stop",
)
SIDE_BY_SIDE = ("data", "model", "train", "evaluate", "measure")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Dotted names a module imports; ``from a import b`` counts as a and a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", rooms("registry"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_registry_imports_nothing_from_the_harness(path):
    assert "bench" not in roots(imports(path))


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_what_a_run_puts_together_never_imports_one_another(name):
    others = {f"bench.{other}" for other in SIDE_BY_SIDE if other != name}
    assert not imports(ROOT / "bench" / f"{name}.py") & others


def test_submitit_is_known_to_schedule_outside_a_job_and_to_job_inside():
    knowing = [p.name for p in rooms("bench") if "submitit" in roots(imports(p))]
    assert knowing == ["job.py", "schedule.py"]


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy_at_their_top(name):
    assert not roots(imports(ROOT / "bench" / f"{name}.py", top_level=True)) & HEAVY


@pytest.mark.parametrize("package", ["backbones", "strategies", "heads", "datasets"])
def test_registered_files_import_nothing_heavy_at_their_top(package):
    for path in rooms(f"registry/{package}"):
        assert not roots(imports(path, top_level=True)) & HEAVY, path


def test_reporting_and_running_share_records_only():
    running = {
        "bench.run",
        "bench.worker.worker",
        "bench.submission.submit",
        "bench.submission.prepare",
        "bench.training.loop",
        "bench.training.model",
        "bench.training.data",
    }
    for name in ("collate", "table", "plot", "report", "section", "foldwise"):
        assert not imports(ROOT / "bench" / f"{name}.py") & running


@pytest.mark.parametrize(
    "statement",
    [
        "import bench.cli, bench.planning.plan, bench.results.record, bench.report.frame, bench.report.table, bench.report.plot, bench.report, bench.status.live",
        "from bench import plan; plan.make(plan.load_grid('default'), 'd')",
        "from registry import backbones, strategies, heads, datasets; backbones.names(), strategies.names(), "
        "heads.names(), datasets.names()",
    ],
)
def test_planning_and_reporting_start_without_torch(statement):
    check = f"import sys; {statement}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
