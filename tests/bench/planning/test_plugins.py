"""Plug-ins beside a grid and in folders: loading, errors with their line, digests, and names in fresh processes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import PlanError, PluginError
from bench.planning import fresh_process, plan, plugins
from registry import strategies
from registry.errors import UnknownNameError
from registry.store import Store, local_names

STRATEGY = """from registry.strategies import register

@register({name!r}, summary="", source="", encoder_lr=1e-3)
def apply(sam, *, tokens):
    pass
"""
GRID = """from bench.grid import Grid
{imports}
GRID = Grid(name="g", backbones=("sam_nano",), strategies={strategies!r}, plugins={plugins!r})
"""


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """Undo what a test registers and imports."""
    plugins._register_own_names()
    saved = [(s, dict(s._entries), dict(s._sources), set(s._local)) for s in Store._stores]
    path, modules = list(sys.path), set(sys.modules)
    yield
    for store, entries, sources, local in saved:
        store._entries, store._sources, store._local = entries, sources, local
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and "pytest-of-" in file:
            del sys.modules[name]


def write_strategy(path: Path, name: str, head: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + STRATEGY.format(name=name))
    return path


def write_grid(path: Path, *used: str, imports: str = "", plugin_paths: tuple[str, ...] = ()) -> str:
    path.write_text(GRID.format(imports=imports, strategies=used, plugins=plugin_paths))
    return str(path)


def test_the_files_of_a_folder_are_loaded_once_and_may_import_one_another(tmp_path: Path) -> None:
    write_strategy(tmp_path / "zeta_method.py", "zeta", "import eta_names\n")
    (tmp_path / "eta_names.py").write_text("import zeta_parts\nCOUNT = []\nCOUNT.append(1)\n")
    (tmp_path / "zeta_parts").mkdir()
    (tmp_path / "zeta_parts" / "__init__.py").write_text("")
    plugins.load([tmp_path])
    plugins.load([tmp_path])
    assert "zeta" in strategies.names()
    assert sys.modules["eta_names"].COUNT == [1]
    assert local_names()["strategy", "zeta"] == str(tmp_path / "zeta_method.py")
    assert sys.path[-1] == str(tmp_path)  # last, so that no installed package is hidden


def test_the_line_of_an_error_in_a_plug_in_is_named_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    path = write_strategy(tmp_path / "half_method.py", "half")
    path.write_text(path.read_text() + "\nimport there_is_no_such_module\n")
    with pytest.raises(PluginError) as caught:
        plugins.load([path])
    assert str(caught.value) == (
        f"the plug-in {path} can't be run: ModuleNotFoundError: No module named 'there_is_no_such_module' (line 7). "
        "Fix it."
    )
    assert "half" not in strategies.names() and "half_method" not in sys.modules
    write_strategy(path, "half", "# mended\n")
    plugins.load([path])
    assert "half" in strategies.names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("1 / 0\n", "ZeroDivisionError: division by zero (line 1). Fix it."),
        ("raise SystemExit(3)\n", "SystemExit: 3 (line 1)"),
        (STRATEGY.format(name="full"), "the strategy 'full' is registered already by registry.strategies.full"),
    ],
)
def test_whatever_a_plug_in_raises_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "faulty_method.py"
    path.write_text(text)
    with pytest.raises(PluginError) as caught:
        plugins.load([tmp_path])
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert strategies.get("full").apply.__module__ == "registry.strategies.full"


def test_the_file_to_blame_is_named_where_it_is_another(tmp_path: Path) -> None:
    (tmp_path / "inner_of_mine.py").write_text("\nX = undefined_name\n")
    (tmp_path / "outer_of_mine.py").write_text("import inner_of_mine\n")
    with pytest.raises(PluginError, match=rf"\(line 2 of {tmp_path}/inner_of_mine\.py\)"):
        plugins.load([tmp_path / "outer_of_mine.py"])


def test_sources_that_are_no_plug_ins_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"the plug-in .*gone is not there; give a \.py file, or a folder of \.py"):
        plugins.load([tmp_path / "gone"])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PluginError, match=r"notes\.txt is no \.py file"):
        plugins.load([tmp_path / "notes.txt"])


def test_a_file_of_a_folder_that_python_would_not_import_is_refused_with_the_reason(tmp_path: Path) -> None:
    write_strategy(tmp_path / "json.py", "shadowed")
    with pytest.raises(
        PluginError, match=r"json\.py has a name that Python finds first elsewhere \(.*json/__init__\.py\); rename it\."
    ):
        plugins.load([tmp_path])


def test_a_package_is_imported_with_its_modules(tmp_path: Path) -> None:
    package = tmp_path / "package_of_mine"
    write_strategy(package / "pi_method.py", "pi", "from .parts import NAME\n")
    (package / "parts.py").write_text("NAME = 1\n")
    (package / "__init__.py").write_text("")
    plugins.load([package])
    plugins.load([package])
    assert strategies.get("pi").apply.__module__ == "package_of_mine.pi_method"
    assert fresh_process.problems({"strategy": ["pi"]}, [package]) == []
    write_strategy(package / "rho_method.py", "rho", "1 / 0\n")
    with pytest.raises(PluginError, match=rf"ZeroDivisionError: .* \(line 1 of {package}/rho_method\.py\)"):
        plugins.load([package])


def test_digests_cover_a_folder_and_what_a_file_imports_beside_it(tmp_path: Path) -> None:
    grid = Path(write_grid(tmp_path / "with_import.py", "theta", imports="import theta_method"))
    write_strategy(tmp_path / "theta_method.py", "theta")
    (tmp_path / "unrelated.py").write_text("")
    folder = tmp_path / "methods"
    write_strategy(folder / "iota_method.py", "iota", "import iota_parts.kappa\n")
    write_strategy(folder / "iota_parts" / "kappa.py", "kappa")
    (folder / "iota_parts" / "never_imported.py").write_text("")
    unreadable = folder / ".venv" / "lib" / "site-packages" / "torch" / "__init__.py"
    unreadable.parent.mkdir(parents=True)
    unreadable.write_text("")
    unreadable.chmod(0)
    plan.load_grid(str(grid), [folder])
    found = plugins.digests([grid, folder])
    names = {str(Path(path).relative_to(tmp_path)) for path in found}
    assert names == {"with_import.py", "theta_method.py", "methods/iota_method.py", "methods/iota_parts/kappa.py"}
    assert found[str(grid)] == hashlib.sha256(grid.read_bytes()).hexdigest()


def test_digests_of_a_package_cover_its_modules_and_no_package_beside_it(tmp_path: Path) -> None:
    for name in ("package_of_digests", "package_beside_it"):
        write_strategy(tmp_path / name / "method.py", name)
        (tmp_path / name / "__init__.py").write_text("")
    package = tmp_path / "package_of_digests"
    (package / "tests").mkdir()
    (package / "tests" / "test_method.py").write_text("")
    plugins.load([package, tmp_path / "package_beside_it"])
    found = plugins.digests([package])
    assert set(found) == {str(package / "__init__.py"), str(package / "method.py")}


def test_a_grid_file_is_a_source_only_if_it_registers_names(tmp_path: Path) -> None:
    plain = plan.load_grid(write_grid(tmp_path / "plain_grid.py", "full"))
    assert plain.plugins == ()
    write_strategy(tmp_path / "lambda_method.py", "lambda_strategy")
    path = write_grid(tmp_path / "lambda_grid.py", "lambda_strategy", imports="import lambda_method")
    for _ in range(2):  # loaded again, it registers nothing new
        loaded = plan.load_grid(path)
        assert loaded.plugins == (path,)
    assert plan.make(loaded, "d").plugins == (Path(path),)


def test_plug_ins_of_a_grid_are_relative_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    write_strategy(tmp_path / "my_methods" / "my_method.py", "my_strategy")
    path = write_grid(tmp_path / "my_grid.py", "my_strategy", plugin_paths=("./my_methods",))
    loaded = plan.load_grid(path)
    assert loaded.plugins == (str(tmp_path / "my_methods"),)
    names = plan.names_used(loaded)
    assert fresh_process.problems(names, plan.make(loaded, "d").plugins) == []


def test_plug_ins_leave_the_ids_of_runs(tmp_path: Path) -> None:
    write_strategy(tmp_path / "other_methods" / "mu_method.py", "mu")
    plain = plan.load_grid("quick")
    with_plugins = plan.load_grid("quick", [tmp_path / "other_methods"])
    assert with_plugins.plugins == (str(tmp_path / "other_methods"),)
    assert [run.id for run in plan.make(with_plugins, "d").runs] == [run.id for run in plan.make(plain, "d").runs]


def test_an_edited_grid_file_is_run_anew(tmp_path: Path) -> None:
    path = tmp_path / "edited_grid.py"
    assert plan.load_grid(write_grid(path, "full")).strategies == ("full",)
    assert plan.load_grid(write_grid(path, "zero_shot")).strategies == ("zero_shot",)


def test_a_text_in_place_of_a_tuple_is_named(tmp_path: Path) -> None:
    path = tmp_path / "comma_grid.py"
    path.write_text(
        'from bench.grid import Grid\nGRID = Grid(name="g", backbones=("sam_nano"), strategies=("full",))\n'
    )
    with pytest.raises(PlanError) as caught:
        plan.load_grid(str(path))
    assert str(caught.value).endswith(": backbones is the text 'sam_nano'; write a tuple: backbones=('sam_nano',).")


def test_a_name_that_only_this_process_knows_is_a_problem(tmp_path: Path) -> None:
    strategies.register("typed_in_a_notebook", summary="", source="", encoder_lr=1e-3)(lambda sam, *, tokens: None)
    names = {"backbone": ["sam_nano"], "strategy": ["typed_in_a_notebook", "full", "unknown anyway"]}
    assert fresh_process.problems(names, []) == [
        "the strategy 'typed_in_a_notebook' is registered in this process, but a worker would not find it: register it "
        "in the grid file, in a file that the grid file imports from its own folder, or with --plugins DIR."
    ]
    path = write_strategy(tmp_path / "nu_method.py", "typed_in_a_notebook")
    assert fresh_process.problems(names, [path]) == []
    path.write_text("print('names that are missing?')\nraise ValueError('not here')\n")
    (problem,) = fresh_process.problems(names, [path])
    assert problem == f"the plug-in {path} can't be run: ValueError: not here (line 2). Fix it."


def test_no_process_is_started_for_names_that_come_with_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process.subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert fresh_process.problems(plan.names_used(plan.load_grid("default")), []) == []


def test_a_dying_process_is_a_problem_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_strategy(tmp_path / "xi_method.py", "xi")
    plugins.load([path])
    path.write_text("import os\nos._exit(7)\n")
    assert fresh_process.problems({"strategy": ["xi"]}, [path]) == [
        "a fresh Python process, as workers are, can't load the plug-ins: exit code 7"
    ]


def test_an_error_of_a_grid_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong_grid.py"
    path.write_text("X = 1\nGRID = Gird()\n")
    with pytest.raises(PlanError) as caught:
        plan.load_grid(str(path))
    assert str(caught.value) == (
        f"the grid file {path} can't be run: NameError: name 'Gird' is not defined (line 2). Fix it."
    )


def test_a_plug_in_that_is_not_loaded_is_an_unknown_name() -> None:
    loaded = replace(plan.load_grid("quick"), strategies=("omicron",))
    with pytest.raises(PlanError, match="unknown strategy 'omicron'"):
        plan.make(loaded, "d")
    with pytest.raises(UnknownNameError):
        strategies.get("omicron")
