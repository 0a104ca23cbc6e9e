"""The store of names: broken modules, plug-ins that can't be loaded, and names that are taken."""

from __future__ import annotations

import itertools
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import DuplicateNameError, UnknownNameError
from registry.store import Store

PACKAGE = """
from registry.store import Store
store = Store("thing", __name__, "test.things")
"""
number = itertools.count()
Write = Callable[[str, str], Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty package with a store of its own, importable under a name that no other test uses."""
    monkeypatch.setattr(Store, "_stores", list(Store._stores))  # stores of this test are forgotten with it
    name = f"things_{next(number)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture
def module(package: str, tmp_path: Path) -> Write:
    """Write a module of the package; ``add`` registers a name in the package's store."""

    def write(name: str, code: str) -> Path:
        path = tmp_path / package / f"{name}.py"
        path.write_text(f"from {package} import store\nadd = lambda name: store.add(name, __name__)\n{code}\n")
        return path

    return write


@pytest.fixture
def plug_in(package: str, tmp_path: Path) -> Write:
    """Install a distribution of one module, with an entry point called ``point`` that names the module."""

    def install(name: str, code: str) -> Path:
        plug = f"{package}_{name}".replace("-", "_")
        (tmp_path / f"{plug}.py").write_text(
            f"from {package} import store\nadd = lambda name: store.add(name, __name__)\n{code}\n"
        )
        info = tmp_path / f"{plug}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        points = info / "entry_points.txt"
        points.write_text(f"[test.things]\npoint = {plug}\n")
        return points

    return install


def store_of(package: str) -> Store[str]:
    store: Store[str] = __import__(package).store
    return store


def test_modules_come_before_plug_ins_in_alphabetical_order(package: str, module: Write, plug_in: Write) -> None:
    plug_in("a-plug", "add('first-plug')")
    plug_in("b-plug", "add('second-plug')")
    module("beta", "add('b')")
    module("alpha", "add('z'); add('y')")
    assert store_of(package).names() == ("z", "y", "b", "first-plug", "second-plug")
    assert store_of(package).get("b") == f"{package}.beta"


@pytest.mark.parametrize("failure", ["import nowhere_to_be_found", "raise SystemExit(3)", "1 / 0"])
def test_a_broken_plug_in_is_left_out_with_one_warning(
    failure: str, package: str, module: Write, plug_in: Write, caplog: pytest.LogCaptureFixture
) -> None:
    module("own", "add('own')")
    plug_in("broken-plug", f"add('half'); {failure}")
    plug_in("sound-plug", "add('sound')")
    store = store_of(package)
    for _ in range(3):
        assert store.names() == ("own", "sound")
    (record,) = caplog.records
    text = record.getMessage()
    assert record.levelno == logging.WARNING
    assert text.startswith(
        f"the entry point 'test.things: point = {package}_broken_plug' of the package 'broken-plug' can't be loaded "
        "and is left out ("
    )
    assert text.endswith("Fix, update or uninstall that package.") and "\n" not in text
    kind = {"import": "ModuleNotFoundError: No module", "raise": "SystemExit: 3", "1": "ZeroDivisionError: division"}
    assert f"({kind[failure.split()[0]]}" in text


def test_an_unknown_name_lists_the_plug_ins_that_were_left_out(package: str, module: Write, plug_in: Write) -> None:
    plug_in("broken-plug", "import nowhere_to_be_found")
    module("own", "add('own')")
    with pytest.raises(
        UnknownNameError, match=r"unknown thing 'half'\. Known: own\. Not loaded: test.things"
    ) as raised:
        store_of(package).get("half")
    assert "of the package 'broken-plug' (ModuleNotFoundError" in raised.value.left_out[0]
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.left_out) == (str(raised.value), raised.value.left_out)


def test_a_broken_module_of_the_package_raises_its_own_error_every_time(package: str, module: Write) -> None:
    module("alpha", "add('a')")
    module("helped", "add('h')")
    path = module("broken", f"add('half'); from {package} import helped; raise RuntimeError('a bug')")
    store = store_of(package)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a bug"):
            store.names()
    path.write_text(path.read_text().replace("raise RuntimeError('a bug')", "add('mended')"))
    assert store.names() == ("a", "half", "h", "mended")


def test_a_plug_in_that_takes_a_built_in_name_is_left_out(
    package: str, module: Write, plug_in: Write, caplog: pytest.LogCaptureFixture
) -> None:
    module("own", "add('same')")
    plug_in("clashing-plug", "add('other'); add('same')")
    assert store_of(package).names() == ("same",)
    assert store_of(package).get("same") == f"{package}.own"
    assert f"DuplicateNameError: the thing 'same' is registered already by {package}.own; choose" in caplog.text


def test_of_two_plug_ins_with_one_name_the_first_by_name_is_kept(
    package: str, plug_in: Write, caplog: pytest.LogCaptureFixture
) -> None:
    plug_in("b-plug", "add('same')")
    plug_in("a-plug", "add('same')")
    assert store_of(package).get("same") == f"{package}_a_plug"
    assert "the thing 'same' is registered already by the package 'a-plug'" in caplog.text


def test_a_name_that_was_registered_before_the_modules_is_an_error(package: str, module: Write) -> None:
    module("own", "add('same')")
    store = store_of(package)
    store.add("same", "mine")
    with pytest.raises(DuplicateNameError, match="registered already by a module that was imported before"):
        store.names()


def test_a_plug_in_that_fails_leaves_nothing_in_any_store(package: str, plug_in: Write) -> None:
    store, other = store_of(package), Store[str]("other", package, "test.others")
    sys.modules[package].other = other  # type: ignore[attr-defined]
    plug_in("broken-plug", f"import {package}; {package}.other.add('half', ''); raise RuntimeError")
    assert store.names() == ()
    assert other.names() == ()


def test_the_warning_is_one_line_on_standard_error_without_source(package: str, plug_in: Write, tmp_path: Path) -> None:
    plug_in("broken-plug", "raise RuntimeError('two\\nlines')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {package}; print({package}.store.names())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "()\n"
    assert done.stderr == (
        f"the entry point 'test.things: point = {package}_broken_plug' of the package 'broken-plug' can't be loaded "
        "and is left out (RuntimeError: two lines). Fix, update or uninstall that package.\n"
    )
