"""Checks of the results folder: before anything is written there, and while runs go on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.errors import BenchError
from registry import names


def check_writable(results: Path) -> None:
    """Refuse a results folder that can't be written to, or whose name SLURM or a library would not find.

    Raises:
        BenchError: with what to do.
    """
    if problem := names.name_problem(str(results)):
        raise BenchError(f"the results folder {names.shown(results)} {problem} Or choose another with --results DIR.")
    if "%" in str(results):
        raise BenchError(
            f"the results folder {results} has a % in its path, which SLURM and submitit replace in the names of log "
            "files; choose another with --results DIR."
        )
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".writable.", dir=results) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise BenchError(
            f"can't write to the results folder {results}: {error.strerror}; choose another with --results DIR."
        ) from error


def check_present(results: Path) -> None:
    """Notice that the results folder was moved, removed or unmounted under a command that follows runs.

    Its plans are looked for, because workers that go on may make the folder itself anew. Without this check the empty
    folder would look as if no run had been done, and everything would be submitted again.

    Raises:
        BenchError: with what to do.
    """
    if not (results / "plans").is_dir():
        raise BenchError(
            f"the results folder {results} is gone: it was moved, removed or unmounted while runs went on. Jobs that "
            "still run can't leave records there: end them with scancel, or bring the folder back and give the same "
            "command again."
        )
