"""The program's code: where it lies, its digest, and how another Python is started on exactly this code."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = ("bench", "registry")
IMPORT_PATH = Path(__file__).resolve().parent / "import_path"
"""First folder on the PYTHONPATH of workers; see its `__init__`."""


@dataclass(frozen=True)
class CodeVersion:
    """Code that a process runs.

    Attributes:
        path: folder of the packages `bench` and `registry`.
        digest: first 16 hex digits of the SHA-256 over names and content of all their .py files.
    """

    path: str
    digest: str


@cache  # a process's source does not change under it
def code_version() -> CodeVersion:
    """Return the code of this process, as its files are now."""
    root = _root()
    return CodeVersion(str(root), digest(root))


def digest(root: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 over the .py files of both packages below `root`."""
    hashed = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        hashed.update(path.relative_to(root).as_posix().encode() + b"\0")
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()[:16]


def python_environment() -> dict[str, str]:
    """Return the variables under which a Python started in any folder imports this code and no file of that folder.

    Without ``PYTHONSAFEPATH``, ``python -m`` puts the current folder first on its path: a worker started in another
    checkout, or beside a file called torch.py, would run that code.
    """
    earlier = os.environ.get("PYTHONPATH")
    parts = [str(IMPORT_PATH), *(earlier.split(os.pathsep) if earlier else [])]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(dict.fromkeys(parts))}


def python_command(python: str | None = None, **variables: str) -> str:
    """Return the shell words that start Python on this code, whatever setup lines before them export.

    Args:
        python: another Python, of a container's image; None is the one that runs now.
        **variables: further environment variables.
    """
    path = f'PYTHONPATH={shlex.quote(str(IMPORT_PATH))}"${{PYTHONPATH:+:$PYTHONPATH}}"'
    others = "".join(f" {name}={shlex.quote(value)}" for name, value in variables.items())
    return f"env PYTHONSAFEPATH=1 {path}{others} {shlex.quote(python or sys.executable)}"


@contextmanager
def for_child_processes() -> Iterator[None]:
    """Let processes that are started while the block runs import exactly this code."""
    variables = python_environment()
    earlier = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def difference(submitted: CodeVersion) -> str | None:
    """Compare the code of this process with that of the command which submitted it.

    Returns:
        A sentence if another folder's code runs here; None otherwise. Code that was edited since in the same folder is
        the user's own doing: records name its digest, and `is_edited` lets the worker warn.
    """
    own = code_version()
    if own.digest == submitted.digest or own.path == submitted.path:
        return None
    return (
        f"this job was submitted by the code in {submitted.path} (digest {submitted.digest}) and would run the code in "
        f"{own.path} (digest {own.digest}). See that the nodes have the first folder, and that no setup line changes "
        "PYTHONPATH or the environment; then run the same command again."
    )


def is_edited(submitted: CodeVersion) -> bool:
    """Return whether the code was edited after the command that submitted this process had started."""
    return code_version().digest != submitted.digest


def _root() -> Path:
    return Path(__file__).resolve().parents[2]
