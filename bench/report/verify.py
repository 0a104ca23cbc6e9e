"""Check of a pack (`bench verify`): it agrees with its own manifest, and its tables follow from its records."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.report import pack_tables
from bench.report.pack import BASELINES, FORMAT, MANIFEST, VERSION, manifest_digest
from bench.report.verify_archive import opened, unpack
from bench.units import plural

MOST_SHOWN = 10


@dataclass(frozen=True)
class Verdict:
    """Result of the check of a pack.

    Attributes:
        sha256: of the whole file.
        expected: the digest that the author of the pack published; None if none was given.
        n_files: number of files in the manifest.
        altered: sentences on files that are not as the manifest says.
        tables: for each table what differs; empty where it is equal.
        not_made: for each table that was not made, the reason.
        left_out: sentences on what could not be packed.
    """

    sha256: str
    expected: str | None
    n_files: int
    altered: list[str]
    tables: dict[str, list[str]]
    not_made: dict[str, str]
    left_out: list[str]

    @property
    def ok(self) -> bool:
        """True if all files are as the manifest says, all tables are equal, and the pack is the one that was meant."""
        return not self.altered and not any(self.tables.values()) and not self.is_another

    @property
    def is_another(self) -> bool:
        """True if the file has not the digest that its author published."""
        return self.expected is not None and self.expected != self.sha256


def verify(path: Path, *, sha256: str | None = None) -> Verdict:
    """Check a pack: digests of its files, then its tables, computed again from its records.

    It is unpacked into a temporary folder only, and nothing in it is executed.

    Args:
        path: the zip file.
        sha256: digest of the whole file that its author published, 64 hexadecimal digits.

    Raises:
        BenchError: the file is no pack, or one that is refused; or the digest is none.
    """
    expected = None if sha256 is None else sha256.strip().lower()
    if expected is not None and not re.fullmatch("[0-9a-f]{64}", expected):
        raise BenchError(
            f"{sha256!r:.100} is no SHA-256 digest; give the 64 hexadecimal digits that `bench report --pack` printed."
        )
    with opened(path) as archive, tempfile.TemporaryDirectory(prefix="nuclei-bench-") as folder:
        manifest = _manifest(archive, path)
        stage = Path(folder) / "pack"
        digests = unpack(archive, stage)
        altered = _altered(manifest, digests)
        tables = _tables(manifest, stage)
    return Verdict(
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        expected=expected,
        n_files=len(manifest["files"]),
        altered=altered,
        tables=tables,
        not_made={str(name): str(reason) for name, reason in manifest["tables_not_made"].items()},
        left_out=[str(sentence) for sentence in manifest["left_out"]],
    )


def report(verdict: Verdict) -> list[str]:
    """Return the result as lines of text."""
    lines = [f"SHA-256 of the pack: {verdict.sha256}"]
    if verdict.is_another:
        lines.append(f"It is another file than the one that was published: {verdict.expected} was given.")
    if verdict.altered:
        lines.append(f"Digests: {plural(len(verdict.altered), 'problem')}.")
        lines += [f"  {sentence}" for sentence in _first(verdict.altered)]
    else:
        lines.append(f"Digests: all {verdict.n_files:,} files are as the manifest says.")
    for name, differences in verdict.tables.items():
        lines.append(f"{name}: {'differs' if differences else 'equal'}")
        lines += [f"  {sentence}" for sentence in _first(differences)]
    lines += [f"{name}: not in the pack. {reason}" for name, reason in verdict.not_made.items()]
    lines += [f"Left out when it was packed: {sentence}" for sentence in _first(verdict.left_out)]
    lines.append(_last_line(verdict))
    return lines


def _last_line(verdict: Verdict) -> str:
    if not verdict.ok:
        return "The pack does not hold: see above."
    holds = "The pack agrees with its own manifest, and its tables follow from its records."
    if verdict.expected:
        return f"{holds} It is the file whose SHA-256 was given."
    return f"{holds} Compare the SHA-256 with the one that its author published (--sha256)."


def _first(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SHOWN
    return [*sentences[:MOST_SHOWN], f"and {rest:,} more"] if rest > 0 else sentences


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """Return the manifest of a pack, with all its fields.

    Raises:
        BenchError: there is none, it is damaged, or it is of a newer version.
    """
    try:
        values = json.loads(archive.read(MANIFEST))
    except KeyError as error:
        raise BenchError(f"{path} is no pack: it holds no {MANIFEST}; `bench report --pack` writes one.") from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RecursionError) as error:
        raise BenchError(f"{path}: {MANIFEST} can't be read ({error}); copy the pack again.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BenchError(f"{path} is no pack: {MANIFEST} is not of the format {FORMAT!r}.")
    if values.get("version") != VERSION:
        raise BenchError(
            f"{path} is of version {values.get('version')}, and this program reads {VERSION}; update nuclei-bench."
        )
    kinds = {"files": dict, "tables_not_made": dict, "left_out": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(values.get(name), kind)]
    if wrong:
        raise BenchError(f"{path}: {MANIFEST} lacks {', '.join(wrong)}; copy the pack again.")
    return values


def _altered(manifest: Mapping[str, Any], digests: Mapping[str, tuple[str, int]]) -> list[str]:
    """Return a sentence for each file that is missing, added or changed."""
    problems = [] if manifest.get("digest") == manifest_digest(dict(manifest)) else [f"{MANIFEST} was changed."]
    for name, expected in sorted(manifest["files"].items()):
        if name not in digests:
            problems.append(f"{name} is missing.")
        elif not isinstance(expected, dict) or (expected.get("sha256"), expected.get("bytes")) != digests[name]:
            problems.append(f"{name} was changed.")
    added = sorted(set(digests) - set(manifest["files"]) - {MANIFEST})
    return problems + [f"{name} was added: the manifest does not name it." for name in added]


def _tables(manifest: Mapping[str, Any], stage: Path) -> dict[str, list[str]]:
    """Return what differs between the tables of the pack and those computed from its records, by table."""
    names = [name for name in pack_tables.TABLES if f"tables/{name}" in manifest["files"]]
    try:
        computed, reasons = pack_tables.compute(stage / "results", stage / BASELINES)
    except Exception as error:  # a changed record can break a computation anywhere, and that is a result, not a bug
        return {name: [f"it can't be computed ({type(error).__name__}: {error})"] for name in names}
    results = {}
    for name in names:
        path = stage / "tables" / name
        if name not in computed:
            results[name] = [f"it can't be computed: {reasons[name]}"]
        elif not path.is_file():
            results[name] = ["it is missing in the pack"]
        else:
            try:
                results[name] = pack_tables.differences(path.read_text(encoding="utf-8"), computed[name])
            except ValueError as error:  # of the encoding, or of the CSV
                results[name] = [f"it can't be read ({error})"]
    for name in computed:
        if name not in results:
            results[name] = ["it is missing in the pack"]
    return results
