"""What the folder of cached embeddings holds, per backbone and dataset, and its removal."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from bench.cache import entry
from bench.cache.store import File, files


@dataclass(frozen=True)
class Group:
    """Embeddings of one dataset's images by one backbone.

    Attributes:
        backbone: name of the backbone; empty for files that are no entries: removed or unfinished ones.
        dataset: name of the dataset; likewise.
        files: their files.
    """

    backbone: str
    dataset: str
    files: tuple[File, ...]

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(file.n_bytes for file in self.files)

    @property
    def used(self) -> float:
        """Time of the last use of any of them, in seconds since the epoch."""
        return max(file.used for file in self.files)


def groups(root: Path, backbones: Collection[str] = ()) -> list[Group]:
    """Return what is in the folder, the largest group first.

    Args:
        root: the folder.
        backbones: only these; empty for all, and then for files that are no entries, too.
    """
    by_name: dict[tuple[str, str], list[File]] = {}
    for file in files(root):
        parts = file.path.relative_to(root).parts
        is_entry = len(parts) == 3 and file.path.suffix == entry.SUFFIX
        names = (unquote(parts[0]), unquote(parts[1])) if is_entry else ("", "")
        if not backbones or names[0] in backbones:
            by_name.setdefault(names, []).append(file)
    listed = [Group(*names, tuple(members)) for names, members in by_name.items()]
    return sorted(listed, key=lambda group: -group.n_bytes)


def remove(root: Path, chosen: Collection[Group]) -> int:
    """Delete the files of groups and folders that are empty then; return the bytes that were freed.

    A job that is about to read one of them computes it again.
    """
    freed = 0
    for group in chosen:
        for file in group.files:
            with suppress(FileNotFoundError):  # another process was faster
                file.path.unlink()
                freed += file.n_bytes
    emptied = {folder for group in chosen for file in group.files for folder in file.path.parents}
    for folder in sorted(emptied, key=lambda folder: -len(folder.parts)):  # the inner ones first
        if folder != root and folder.is_relative_to(root):
            with suppress(OSError):  # not empty, or gone
                folder.rmdir()
    return freed
