"""`bench report --pack`: one zip file with what a reader needs to check the claims, and no image in it."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.report import pack_tables
from bench.report.baselines import COLUMNS, baseline_frame
from bench.report.output import STDOUT, explained
from bench.report.pack_redaction import Redaction
from bench.results.record import FILENAME, HISTORY_FILENAME, SCORES_FILENAME, folder, folders
from registry import atomic

FORMAT, VERSION = "nuclei-bench pack", 1
MANIFEST = "manifest.json"
BASELINES = "baselines.csv"
_TIME = (1980, 1, 1, 0, 0, 0)
"""Time of every file in a pack, the earliest that a zip file can hold: the same records give the same bytes."""
README = """\
What is in this file

  results/runs/ID/     the record of each run (settings, scores, costs, audit, versions) and its scores per image
  results/folds/       which image is in which fold
  results/plans/       the runs that were planned
  tables/              the tables that follow from these
  baselines.csv        the published scores beside them, with their sources
  manifest.json        SHA-256 digest and size of every file

`bench verify FILE` checks the digests and computes the tables again. A file that passes agrees with its own manifest,
and its tables follow from its records; whoever changes a record can write tables and manifest anew. Compare the
SHA-256 digest of the whole file with the one that its author published: `bench verify FILE --sha256 DIGEST`. Neither
proves that the scores were measured as the records say.

Taken out: images, label maps, predictions, weights and logs; all but the last part of absolute paths; names of hosts,
which are numbered. NaN and infinity are null.
Left in: the settings of every run as they were given; names of data folders, organs and images; models of GPUs,
versions of packages, commits, times, and numbers of SLURM jobs; errors, with the paths in them shortened.
"""


def write_pack(results: Path, output: Path | None = None) -> tuple[Path, str]:
    """Write a pack of a results folder.

    Args:
        results: the results folder.
        output: the zip file; None takes ``report/pack.zip`` below `results`.

    Returns:
        The file, and its SHA-256 digest, by which readers know that they have the same one.

    Raises:
        BenchError: there are no records, or the file can't be written.
    """
    path = output or results / "report" / "pack.zip"
    if path == STDOUT or path.is_dir() or path.suffix != ".zip":
        raise BenchError(f"a pack is a zip file, and {path} is no name of one; give one with -o FILE.zip.")
    with tempfile.TemporaryDirectory(prefix="nuclei-bench-") as temporary:
        stage = Path(temporary)
        left_out = _copy(results, stage)
        tables, reasons = pack_tables.compute(stage / "results", stage / BASELINES)
        for name, text in tables.items():
            _write(stage / "tables" / name, text.encode())
        _write(stage / "README.txt", README.encode())
        names = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
        manifest = _manifest(stage, names, reasons, left_out)
        with explained(path, "FILE.zip"), atomic.replacing(path) as target:
            _zip(target, stage, names, manifest)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_digest(manifest: dict[str, Any]) -> str:
    """Return the digest of a manifest without its own field ``digest``."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def entry(content: bytes) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _copy(results: Path, stage: Path) -> list[str]:
    """Copy what a pack holds of a results folder, without paths and hosts; return sentences on what can't be read."""
    redaction, left_out = Redaction(), list[str]()
    records = _records(results, left_out)
    for values in records.values():
        redaction.collect(values)
    n_records = 0
    for run_id, values in records.items():
        source, target = folder(results, run_id), folder(stage / "results", run_id)
        try:
            _write_json(target / FILENAME, redaction.record(values), indent=1)
        except (ValueError, RecursionError) as error:  # NaN among the settings, which are the run's identity
            left_out.append(f"runs/{run_id}: the record can't be written ({error}).")
            continue
        n_records += 1
        for name in (SCORES_FILENAME, HISTORY_FILENAME):
            if (source / name).is_file():
                _write(target / name, (source / name).read_bytes())
    if not n_records:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    for path in sorted((results / "folds").glob("*.csv")):
        _write(stage / "results" / "folds" / path.name, path.read_bytes())
    for path in sorted((results / "plans").glob("*.json")):
        try:
            _write_json(stage / "results" / "plans" / path.name, _plan(json.loads(path.read_bytes()), redaction))
        except (OSError, ValueError, RecursionError) as error:
            left_out.append(f"plans/{path.name}: can't be read ({error}).")
    _write(stage / BASELINES, baseline_frame()[list(COLUMNS)].to_csv(index=False).encode())
    return [redaction.text(sentence) for sentence in left_out]


def _records(results: Path, left_out: list[str]) -> dict[str, dict[str, Any]]:
    """Return the values of all records by the run's id; append a sentence for each that can't be read."""
    records = {}
    for run_id in sorted(folders(results)):
        try:
            values = json.loads((folder(results, run_id) / FILENAME).read_bytes())
            if not isinstance(values, dict):
                raise ValueError("not a record")
        except FileNotFoundError:  # unfinished
            continue
        except (OSError, ValueError, RecursionError) as error:
            left_out.append(f"runs/{run_id}: the record can't be read ({error}).")
            continue
        records[run_id] = values
    return records


def _plan(values: Any, redaction: Redaction) -> Any:
    """Return a plan without paths; runs keep all their settings, which are their identity."""
    if not isinstance(values, dict):
        return redaction.value(values)
    return {key: value if key == "runs" else redaction.value(value) for key, value in values.items()}


def _manifest(stage: Path, names: list[str], reasons: dict[str, str], left_out: list[str]) -> dict[str, Any]:
    files = {name: entry((stage / name).read_bytes()) for name in names}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "program": metadata.version("nuclei-bench"),
        "tables_not_made": reasons,
        "left_out": left_out,
        "files": files,
    }
    return {**manifest, "digest": manifest_digest(manifest)}


def _zip(path: Path, stage: Path, names: list[str], manifest: dict[str, Any]) -> None:
    """Write the zip file: fixed times and modes, files in order, the manifest first."""
    with zipfile.ZipFile(path, "w") as archive:
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        for name, content in [(MANIFEST, text.encode()), *((name, None) for name in names)]:
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, (stage / name).read_bytes() if content is None else content, compresslevel=9)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_json(path: Path, values: Any, indent: int | None = None) -> None:
    _write(path, (json.dumps(values, indent=indent, allow_nan=False) + "\n").encode())
