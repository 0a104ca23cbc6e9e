"""Digest of model code, on small files."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.source_digest import _code_digest, _digest, _imported_files, source_digest

BUILDER = '''"""Builds a model."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typed import Only


def build(size):
    """Return a model."""
    from layers import width

    return width * size  # per side
'''


def digest_of(folder: Path, files: dict[str, str], entry: str = "builder.py") -> str:
    """Write files into a folder, and return the digest of what `entry` consists of."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for function in (_digest, _imported_files, _code_digest):
        function.cache_clear()
    return _digest(frozenset({folder / entry}))


FILES = {"builder.py": BUILDER, "layers.py": "width = 3\n", "typed.py": "Only = int\n", "unrelated.py": "x = 1\n"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("builder.py", "  # per side", "  # each side"),
        ("builder.py", '"""Return a model."""', '"""Return the model, in other words."""'),
        ("builder.py", '    """Return a model."""\n', ""),
        ("builder.py", "width * size", "(\n        width * size\n    )"),
        ("layers.py", "width = 3\n", 'width = 3\n"""Of the only layer."""\n'),
        ("unrelated.py", "x = 1", "x = 2"),
        ("typed.py", "int", "float"),
    ],
)
def test_unchanged_by_comments_docstrings_layout_and_files_that_are_not_imported(tmp_path, name, old, new):
    before = digest_of(tmp_path, FILES)
    assert old in FILES[name]
    assert digest_of(tmp_path, {name: FILES[name].replace(old, new)}) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("builder.py", "width * size", "width + size"), ("layers.py", "3", "4"), ("layers.py", "3", "'3'")],
)
def test_changed_by_code_and_by_imported_code(tmp_path, name, old, new):
    before = digest_of(tmp_path, FILES)
    assert digest_of(tmp_path, {name: FILES[name].replace(old, new)}) != before


@pytest.mark.parametrize(
    "statement",
    [
        "from .layers.conv import width",
        "from . import layers",
        "from models.layers import conv",
        "import models.layers.conv",
        "from ..models.layers import conv",
    ],
)
def test_imports_within_a_package_are_followed(tmp_path, statement):
    files = {
        "models/__init__.py": "",
        "models/builder.py": f"def build(size):\n    {statement}\n",
        "models/layers/__init__.py": "from models.layers.conv import width\n",
        "models/layers/conv.py": "width = 3\n",
    }
    before = digest_of(tmp_path, files, "models/builder.py")
    assert digest_of(tmp_path, {"models/layers/conv.py": "width = 4\n"}, "models/builder.py") != before


def test_other_libraries_beside_an_installed_module_are_not_followed(tmp_path):
    folder = tmp_path / "site-packages"
    files = {"builder.py": "import vendor\n", "vendor/__init__.py": "x = 1\n"}
    before = digest_of(folder, files)
    assert digest_of(folder, {"vendor/__init__.py": "x = 2\n"}) == before


def load(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("plug_in_of_a_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_functions_partials_classes_and_instances_have_the_digest_of_their_file(tmp_path, monkeypatch):
    path = tmp_path / "plug_in.py"
    path.write_text("def build(size): ...\nclass Head:\n    def loss(self): ...\n")
    module = load(path, monkeypatch)
    things = [module.build, functools.partial(module.build, size=3), module.Head, module.Head(), module.Head().loss]
    assert {source_digest(thing) for thing in things} == {digest_of(tmp_path, {}, "plug_in.py")}


def test_objects_without_a_source_file_are_left_out():
    typed = eval("lambda size: size")  # its code names the file "<string>"
    assert source_digest(len, typed) == source_digest()
