"""Kind of a file that was saved under a checkpoint's name and is none: a web page, an archive, text, a broken zip."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path, PurePosixPath

from registry import file_kind

HEAD_BYTES = 512
SHOWN_CHARACTERS = 40
_ARCHIVES = ((b"BZh", "a bzip2 archive"), (b"\xfd7zXZ\0", "an xz archive"), (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"))


def wrong_content(file: Path, member: str | None = None) -> str:
    """Return what a file is that can't be a torch checkpoint, as the end of a sentence that begins with its name.

    Only the first bytes are read, and the end of a zip archive. Nothing is unpickled.

    Args:
        file: the file.
        member: name of the checkpoint in a zip archive, for a card that has one.

    Returns:
        ``"is an HTML page…; it begins with '<!DOCTYPE html>'"``; empty for what may be a checkpoint.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if not head:
        return "is empty"
    if head.startswith(b"PK"):
        return _wrong_zip(file, member)
    if kind := file_kind.of(head) or _archive(head):
        return f"is {kind}{_beginning(head)}"
    if _is_safetensors(head, file.stat().st_size):
        return "is a safetensors file; torch's own format (.pt, .pth) is needed"
    if _text(head) and not is_pickle(file):
        kind = "JSON" if head.lstrip()[:1] in (b"{", b"[") else "text"
        return f"is {kind}{_beginning(head)}"
    return ""


def _wrong_zip(file: Path, member: str | None) -> str:
    size = file.stat().st_size
    if not zipfile.is_zipfile(file):
        return f"is a zip archive, as torch writes it, that is cut off after {size:,} bytes"
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(PurePosixPath(name).name in ("data.pkl", member) for name in names):
        return ""
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"is a zip archive that holds no checkpoint ({shown or 'nothing'})"


def _archive(head: bytes) -> str | None:
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for signature, kind in _ARCHIVES if head.startswith(signature)), None)


def _is_safetensors(head: bytes, size: int) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def _text(head: bytes) -> str:
    """Return the first bytes as text; empty if they are none."""
    text = head.decode("utf-8-sig", errors="ignore") if len(head) == HEAD_BYTES else ""
    try:
        text = text or head.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""
    return text if all(character.isprintable() or character.isspace() for character in text) else ""


def is_pickle(file: Path) -> bool:
    """Tell whether a file begins with a whole pickle, which may hold code; it is parsed, not executed."""
    try:
        with file.open("rb") as opened:
            for _ in pickletools.genops(opened):
                pass
    except Exception:  # whatever bytes that are no pickle lead the parser into
        return False
    return True


def _beginning(head: bytes) -> str:
    """Return how a text begins, for the end of a sentence; empty for other content."""
    lines = _text(head).strip().splitlines()
    if not lines:
        return ""
    line = lines[0].strip()
    return f"; it begins with {line[:SHOWN_CHARACTERS] + '…' * (len(line) > SHOWN_CHARACTERS)!r}"
