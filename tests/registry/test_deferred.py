"""A deferred package: its modules load without its `__init__`, which runs when a name of it is read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from registry.deferred import defer


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose `__init__` counts how often it runs, with one module."""
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("import sys\nsys.slow_runs.append(1)\nfrom .part import VALUE\nOTHER = 2\n")
    (folder / "part.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "slow_runs", [], raising=False)
    yield "slow_package"
    for name in [name for name in sys.modules if name.partition(".")[0] == "slow_package"]:
        del sys.modules[name]


def test_a_module_of_it_loads_without_it_and_a_name_of_it_loads_it_once(package):
    defer(package)
    from slow_package.part import VALUE

    assert (VALUE, sys.slow_runs) == (1, [])
    import slow_package
    from slow_package import OTHER

    assert (OTHER, slow_package.VALUE, sys.slow_runs) == (2, 1, [1])
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        print(slow_package.nothing)


def test_a_package_that_is_loaded_or_not_installed_is_left_alone(package):
    import slow_package

    defer(package)
    defer("no_such_package")
    assert sys.modules[package] is slow_package and sys.slow_runs == [1] and "no_such_package" not in sys.modules


def test_an_error_of_its_init_is_raised_at_every_use(package, tmp_path):
    (tmp_path / package / "__init__.py").write_text("import no_such_package\n")
    defer(package)
    import slow_package

    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            print(slow_package.OTHER)


def test_a_sam_is_built_without_torchvision_and_segment_anything_is_whole_when_it_is_used():
    script = (
        "import sys\n"
        "import torch\n"
        "from registry import backbones\n"
        "with torch.device('meta'):\n"
        "    backbones.build('sam_nano', image_size=256)\n"
        "assert 'segment_anything.modeling' in sys.modules and 'torchvision' not in sys.modules\n"
        "from segment_anything import SamPredictor, sam_model_registry\n"
        "assert 'vit_h' in sam_model_registry and 'torchvision' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
