"""Code that workers run: its digest, and other processes that import exactly this code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.worker import code
from bench.worker.code import CodeVersion

ROOT = Path(code.__file__).resolve().parents[2]
FROM_COPY = "import sys; sys.path.append(sys.argv[1]); from bench.worker import code\n"
"""Start of a script on the code of a folder, which stands last on the path as with an editable install."""


@pytest.fixture
def decoy(tmp_path) -> Path:
    """A folder with files that would be imported in place of this program's packages."""
    folder = tmp_path / "decoy"
    for package in ("bench", "registry"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise SystemExit('the wrong code')\n")
    (folder / "torch.py").write_text("raise SystemExit('the wrong torch')\n")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of this code with files beside the packages that have names of the standard library and of PyTorch."""
    folder = tmp_path_factory.mktemp("check out")
    for package in code.PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("queue", "profile", "torch", "argparse"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    return folder


def run_from_copy(checkout: Path, script: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    command = [sys.executable, "-P", "-c", FROM_COPY + script, str(checkout)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    command = [sys.executable, "-m", "bench.cli", "--help"]  # -m: the current folder would come first
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


IMPORTS = "import queue, profile, torch, bench, registry.store; print(bench.__file__, registry.store.__file__)"


def test_files_beside_the_packages_replace_no_module_in_child_processes(checkout, tmp_path):
    script = f"""
import subprocess
with code.for_child_processes():
    subprocess.run([sys.executable, "-m", "submitit.core._submit", "--help"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-c", {IMPORTS!r}], check=True)
"""
    files = f"{checkout}/bench/__init__.py {checkout}/registry/store.py"
    assert run_from_copy(checkout, script, tmp_path).strip() == files


def test_files_beside_the_packages_replace_no_module_in_jobs(checkout, tmp_path):
    command = run_from_copy(checkout, "print(code.python_command())", tmp_path).strip()
    script = f"cd '{checkout}'; {command} -c '{IMPORTS}'; {command} -m submitit.core._submit --help"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    files = f"{checkout}/bench/__init__.py {checkout}/registry/store.py"
    assert done.stdout.startswith(f"{files}\nusage: "), done.stdout + done.stderr


def test_files_beside_the_packages_replace_no_module_in_processes_that_share_a_gpu(checkout, tmp_path):
    job = f"""
from pathlib import Path
from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.worker.job import Job
from bench.worker.settings import WorkerSettings
settings = Settings(weights="random", folds=FoldSettings(n_splits=2))
runs = plan.make(Grid("g", ("sam_nano",), ("full",), settings, classical=False), "d").runs
folder = Path({str(tmp_path)!r})
print(Job(runs, WorkerSettings(folder, folder / "gone", device="cpu"), {{}}, at_once=2)().error)
"""
    script = f"""
import subprocess
with code.for_child_processes():
    subprocess.run([sys.executable, "-c", {job!r}], check=True)
"""
    assert str(tmp_path / "gone") in run_from_copy(checkout, script, tmp_path)


def test_code_of_another_folder_is_named_and_edited_code_is_not():
    own = code.code_version()
    assert code.difference(own) is None and not code.is_edited(own)
    edited = CodeVersion(own.path, "0" * 16)
    assert code.difference(edited) is None and code.is_edited(edited)
    assert code.difference(CodeVersion("/elsewhere", own.digest)) is None  # the same code under another mount point
    sentence = str(code.difference(CodeVersion("/elsewhere", "0" * 16)))
    assert sentence.startswith("this job was submitted by the code in /elsewhere (digest 0000000000000000)")
    assert own.path in sentence and own.digest in sentence
