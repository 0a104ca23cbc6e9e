"""Digest that a checkpoint must have: as its authors publish it, or as the first download had it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry import digests
from registry.atomic import write_text
from registry.card import Checkpoint


@dataclass(frozen=True)
class ExpectedDigest:
    """A digest and its source.

    Attributes:
        kind: the algorithm.
        value: in hexadecimal digits.
        source: ``"as published"``, ``"as in the package name==1.0"`` or ``"as at the first download"``.
    """

    kind: digests.Kind
    value: str
    source: str


def find(checkpoint: Checkpoint, target: Path) -> ExpectedDigest | None:
    """Return the card's digest, or that of the side file beside `target`; None where neither is known."""
    if checkpoint.sha256:
        package = checkpoint.package
        source = f"as in the package {package.requirement}" if package else "as published"
        return ExpectedDigest("sha256", checkpoint.sha256, source)
    if checkpoint.git_blob_sha1:
        return ExpectedDigest("git blob sha1", checkpoint.git_blob_sha1, "as published")
    side = _side_file(target)
    words = side.read_text(encoding="utf-8").split() if side.exists() else []
    return ExpectedDigest("sha256", words[0], "as at the first download") if words else None


def trust(target: Path) -> None:
    """Write the sha256 of a file beside it, in the format of `sha256sum`."""
    write_text(_side_file(target), f"{digests.compute(target, 'sha256')}  {target.name}\n")


def _side_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")
