"""Official checkpoints: download and verify them, and load them without running their code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from registry import cache_dir
from registry.atomic import write_text
from registry.card import Card, Checkpoint
from registry.download import download
from registry.errors import WeightsError

if TYPE_CHECKING:
    from registry.contract import Backbone
    from registry.sam import Sam

MIRROR = "BENCH_WEIGHTS_MIRROR"


@dataclass(frozen=True)
class Status:
    """What `check` found.

    Attributes:
        name: the backbone.
        path: where its file stands, or would stand.
        state: ``"unverified"`` where neither the card nor an earlier download knows a digest.
        detail: one sentence for the user.
    """

    name: str
    path: Path
    state: Literal["ok", "missing", "wrong digest", "unverified"]
    detail: str


def path(card: Card, folder: Path | None = None) -> Path:
    """Path of a backbone's official file once it is fetched.

    Raises:
        WeightsError: a backbone without official weights.
    """
    return (cache_dir.weights() if folder is None else Path(folder)) / _checkpoint(card).filename


def fetch(card: Card, folder: Path | None = None, progress: bool = True) -> Path:
    """The verified official file, downloaded if it isn't there.

    A download that broke off is continued. Where the authors publish no digest, the first download is trusted
    and its sha256 is written to a side file, to which later ones are held. The environment variable
    ``BENCH_WEIGHTS_MIRROR`` replaces everything of the URL but the file's name.

    Args:
        card: of a backbone.
        folder: where files are kept; `cache_dir.weights()` by default.
        progress: draw a progress bar on the terminal.

    Raises:
        WeightsError: no official weights, a broken download, or a file that is not the official one; that
            file is kept aside under a name that ends in ``.rejected``.
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
        store.fetch(target.name, downloader=_downloader(checkpoint, target, progress))
    else:
        _verify(checkpoint, target, target)
    if _expected(checkpoint, target) is None:
        write_text(_side_file(target), f"{digest(target)}  {target.name}\n")
    return target


def check(card: Card, folder: Path | None = None) -> Status:
    """Tell whether a backbone's file is there and is the official one; changes nothing.

    A process reads a file once, and again when it has changed.
    """
    checkpoint, target = _checkpoint(card), path(card, folder)
    if not target.is_file():
        return Status(card.name, target, "missing", f"run `bench weights fetch {card.name}`")
    expected = _expected(checkpoint, target)
    if expected is None:
        return Status(card.name, target, "unverified", f"no digest is published; sha256 {digest(target)}")
    source = "as published" if checkpoint.sha256 or checkpoint.git_blob_sha1 else "as at the first download"
    found = _unless_known(expected.measure, target)
    if found == expected.value:
        return Status(card.name, target, "ok", f"{expected.kind} {source}")
    size = f"{target.stat().st_size:,} bytes, {expected.kind} {found} instead of {expected.value}"
    return Status(card.name, target, "wrong digest", f"{size}; move it away and run `bench weights fetch {card.name}`")


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
    given = converted(official, entry)
    problem = mismatch(sam.state_dict(), given)
    if problem:
        raise WeightsError(f"{path} does not fit {entry.card.name}: {problem}.{suggest(official, candidates)}")
    if bad := finite.describe(given):
        raise WeightsError(
            f"{path} holds {bad}. It is damaged, or was saved by a training that had diverged: fetch the official file "
            f"with `bench weights fetch {entry.card.name}`."
        )
    sam.load_state_dict(given)


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits. A process reads a file once, and again when it has changed."""
    return _unless_known(_sha256, Path(path))


def git_blob_sha1(path: Path) -> str:
    """The sha1 under which git stores a file, in hexadecimal digits; read as rarely as by `digest`."""
    return _unless_known(_blob_sha1, Path(path))


def _unless_known(measure: Callable[[Path], str], file: Path) -> str:
    found = file.stat()
    # With the time of any change of the inode: a modification time that was copied deceives nobody.
    version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _measured(measure, file, version)


@lru_cache(maxsize=64)
def _measured(measure: Callable[[Path], str], file: Path, version: tuple[int, ...]) -> str:
    """Runs that share a process share a checkpoint, which may be gigabytes on a slow file system."""
    return measure(file)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _blob_sha1(file: Path) -> str:
    with file.open("rb") as opened:
        # Not a signature: it is what the repository vouches with.
        blob = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        while chunk := opened.read(1 << 20):
            blob.update(chunk)
    return blob.hexdigest()


@dataclass(frozen=True)
class _Digest:
    kind: str
    value: str
    measure: Callable[[Path], str]


def _checkpoint(card: Card) -> Checkpoint:
    if card.checkpoint is None:
        raise WeightsError(f"{card.name} has no official weights; run it with --set weights=random.")
    return card.checkpoint


def _url(checkpoint: Checkpoint) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{checkpoint.filename}" if mirror else checkpoint.url


def _side_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _expected(checkpoint: Checkpoint, target: Path) -> _Digest | None:
    if checkpoint.sha256:
        return _Digest("sha256", checkpoint.sha256, _sha256)
    if checkpoint.git_blob_sha1:
        return _Digest("git blob sha1", checkpoint.git_blob_sha1, _blob_sha1)
    side = _side_file(target)
    return _Digest("sha256", side.read_text().split()[0], _sha256) if side.exists() else None


def _downloader(checkpoint: Checkpoint, target: Path, progress: bool) -> Callable[[str, str, object], None]:
    """A pooch downloader that resumes, and verifies before pooch moves the file to its place."""

    def fill(url: str, output_file: str, _pooch: object) -> None:
        part = target.with_name(f"{target.name}.part")
        download(url, part, progress=progress)
        _verify(checkpoint, part, target)
        part.replace(output_file)

    return fill


def _verify(checkpoint: Checkpoint, file: Path, target: Path) -> None:
    """Refuse a file whose digest is wrong, and keep it aside. Its bytes are read, whatever was read before."""
    expected = _expected(checkpoint, target)
    found = expected.measure(file) if expected else None
    if expected is None or found == expected.value:
        return
    rejected, size = target.with_name(f"{target.name}.rejected"), file.stat().st_size
    file.replace(rejected)
    length = f" of {checkpoint.size_bytes:,}" if checkpoint.size_bytes else ""
    raise WeightsError(
        f"{target.name} was refused: its {expected.kind} is {found}, not {expected.value} ({size:,}{length} "
        f"bytes: truncated, or another file). It is kept aside as {rejected}; run the same again to download "
        "it anew."
    )
