"""Imports: packages by layer, no circles, and commands that must start without heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "peft", "segment_anything", "submitit"}
LAYERS = (
    ("cli",),
    ("submission",),
    ("export", "worker"),
    ("run", "predict", "perf"),
    ("estimate", "report", "status"),
    ("training",),
    ("architecture",),
    ("results",),
    ("planning", "slurm"),
    (
        *("cache", "characters", "columns", "console", "errors", "fast_paths", "folds", "grid", "grids", "metrics"),
        *("settings", "units"),
    ),
    ("registry",),
)
"""Packages and single modules of `bench`, top first; `registry` below them all."""
COMMANDS_WITHOUT_TORCH = ("cli", "submission", "status", "report", "estimate", "results", "planning", "slurm")
"""Layers whose modules import nothing heavy at their top: planning, watching and reporting answer at once."""
SIDE_BY_SIDE = ("data", "model", "loop", "evaluate", "measure")


def package(module: str) -> str:
    """The package (or single module) of `LAYERS` that a dotted module name belongs to."""
    first, _, rest = module.partition(".")
    return first if first == "registry" else rest.partition(".")[0]


def modules(*folders: str) -> dict[str, Path]:
    """Files by dotted module name; a package stands under its own name."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules("bench", "registry")


def nodes(tree: ast.Module, *, top_level: bool) -> Iterator[ast.AST]:
    """Statements that run: all but those for type checkers; at the top level, or anywhere."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    walk = [inner for node in tree.body for inner in ast.walk(node)] if not top_level else at_import(tree.body)
    return (node for node in walk if id(node) not in typing_only)


def at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when a module is imported: not those in functions."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            yield from at_import([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])


def names(path: Path, *, top_level: bool = False) -> set[str]:
    """Dotted names a module imports; ``from a import b`` counts as a and a.b."""
    imported: set[str] = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), top_level=top_level):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return imported


def imports(module: str) -> set[str]:
    """Modules of this project that a module imports, at its top or in a function."""
    known = names(MODULES[module]) & MODULES.keys()
    # ``from bench.results import record`` means the module record, not what the package's __init__ holds.
    return {name for name in known if not any(other.startswith(f"{name}.") for other in known)} - {module}


def roots(imported: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in imported}


def arrows() -> set[tuple[str, str]]:
    """Pairs of packages of which the first imports the second."""
    pairs = {(package(module), package(other)) for module in MODULES for other in imports(module)}
    return {(one, other) for one, other in pairs if one != other and one}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_package_has_a_layer():
    listed = {name for layer in LAYERS for name in layer}
    assert {package(module) for module in MODULES} - {""} == listed


def test_packages_import_only_from_layers_below(capsys):
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    found = arrows()
    upward = sorted(f"{one} imports {other}" for one, other in found if depth[other] < depth[one])
    sideways = sorted(f"{one} imports {other}" for one, other in found if depth[other] == depth[one])
    # Within the lowest layer of the harness single modules may use one another; circles are excluded below.
    lowest = set(LAYERS[-2])
    with capsys.disabled():
        n_packages = sum((ROOT / "bench" / name).is_dir() for name in depth)
        print(
            f"\nimports: {len(MODULES)} modules, {n_packages} packages of bench and {len(depth) - n_packages} single "
            f"modules or roots in {len(LAYERS)} layers, {len(found)} arrows between them, "
            f"{len(upward)} of them upward, {int(bool(module_circle()))} circles"
        )
    assert upward == []
    assert [text for text in sideways if not set(text.split(" imports ")) <= lowest] == []


def module_circle() -> list[str]:
    return circles({module: imports(module) for module in MODULES})


def test_no_module_imports_itself_in_a_circle():
    assert module_circle() == []


def test_a_circle_would_be_found():
    assert set(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()})) == {"a", "b", "c"}


def test_the_registry_imports_nothing_from_the_harness():
    assert [
        module for module in MODULES if package(module) == "registry" and "bench" in roots(names(MODULES[module]))
    ] == []


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_the_parts_of_a_run_never_import_one_another(name):
    others = {f"bench.training.{other}" for other in SIDE_BY_SIDE if other != name}
    assert imports(f"bench.training.{name}") & others == set()


def test_submitit_is_imported_where_jobs_are_submitted_and_where_they_run():
    using = {module for module, path in MODULES.items() if "submitit" in roots(names(path))}
    assert using <= {"bench.submission.submit", "bench.submission.local", "bench.worker.job"}


def test_reporting_knows_runs_from_their_records_only():
    others = {"training", "run", "worker", "submission", "estimate", "status"}
    assert {other for one, other in arrows() if one == "report"} & others == set()


def test_light_modules_import_nothing_heavy_at_their_top():
    heavy = {
        module: found
        for module, path in MODULES.items()
        if package(module) in COMMANDS_WITHOUT_TORCH and (found := roots(names(path, top_level=True)) & HEAVY)
    }
    assert heavy == {}


def test_registered_files_import_nothing_heavy_at_their_top():
    packages = tuple(f"registry.{kind}" for kind in ("backbones", "strategies", "heads", "datasets"))
    heavy = {
        module: found
        for module, path in MODULES.items()
        if module.startswith(packages) and (found := roots(names(path, top_level=True)) & HEAVY)
    }
    assert heavy == {}


LIGHT_MODULES = sorted(module for module in MODULES if package(module) in COMMANDS_WITHOUT_TORCH)


@pytest.mark.parametrize(
    "statement",
    [
        f"import {', '.join(module for module in LIGHT_MODULES if not module.endswith('__main__'))}",
        "from bench.planning import plan; plan.make(plan.load_grid('default'), 'd')",
        "from registry import backbones, strategies, heads, datasets; backbones.names(), strategies.names(), "
        "heads.names(), datasets.names()",
    ],
    ids=["modules", "planning", "registry"],
)
def test_planning_watching_and_reporting_start_without_torch(statement):
    # `registry.deferred` keeps a place for segment_anything; what takes time comes with its modules.
    loaded = HEAVY - {"segment_anything"} | {"segment_anything.modeling"}
    script = f"import sys; {statement}; print(sorted(set(sys.modules) & {loaded!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stderr
