"""Code that workers run: its digest, and other processes that import exactly this code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.worker import code
from bench.worker.code import CodeVersion

ROOT = Path(code.__file__).resolve().parents[2]


@pytest.fixture
def decoy(tmp_path) -> Path:
    """A folder with files that would be imported in place of this program's packages."""
    folder = tmp_path / "decoy"
    for package in ("bench", "registry"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise SystemExit('the wrong code')\n")
    (folder / "torch.py").write_text("raise SystemExit('the wrong torch')\n")
    return folder


def test_the_digest_changes_with_names_and_content_of_python_files(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "a.py").write_text("x = 1\n")
    first = code.digest(tmp_path)
    (tmp_path / "bench" / "notes.txt").write_text("no code")
    assert code.digest(tmp_path) == first and len(first) == 16
    (tmp_path / "bench" / "a.py").write_text("x = 2\n")
    second = code.digest(tmp_path)
    (tmp_path / "bench" / "a.py").rename(tmp_path / "bench" / "b.py")
    assert len({first, second, code.digest(tmp_path)}) == 3


def test_this_process_runs_this_code():
    assert code.code_version() == CodeVersion(str(ROOT), code.digest(ROOT))


def test_a_child_process_in_a_folder_of_decoys_imports_this_code(decoy):
    command = [sys.executable, "-m", "json.tool", "--help"]  # -m: the current folder would come first
    script = "import bench.worker.code as code, importlib.util; print(code.__file__, importlib.util.find_spec('torch'))"
    with code.for_child_processes():
        assert subprocess.run(command, cwd=decoy, capture_output=True, check=True)
        done = subprocess.run([sys.executable, "-c", script], cwd=decoy, capture_output=True, text=True, check=True)
    assert str(ROOT / "bench") in done.stdout and str(decoy) not in done.stdout
    assert os.environ.get("PYTHONSAFEPATH") != "1"


def test_the_words_for_sbatch_start_this_code_whatever_is_exported(decoy):
    script = f"export PYTHONPATH={decoy}\n{code.python_command()} -c 'import bench; print(bench.__file__)'"
    done = subprocess.run(["sh", "-c", script], cwd=decoy, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(ROOT / "bench" / "__init__.py"), done.stderr


def test_code_of_another_folder_is_named_and_edited_code_is_not():
    own = code.code_version()
    assert code.difference(own) is None and not code.is_edited(own)
    edited = CodeVersion(own.path, "0" * 16)
    assert code.difference(edited) is None and code.is_edited(edited)
    assert code.difference(CodeVersion("/elsewhere", own.digest)) is None  # the same code under another mount point
    sentence = str(code.difference(CodeVersion("/elsewhere", "0" * 16)))
    assert sentence.startswith("this job was submitted by the code in /elsewhere (digest 0000000000000000)")
    assert own.path in sentence and own.digest in sentence
