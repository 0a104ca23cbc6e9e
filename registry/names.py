"""File names: shown on any screen, compared in one Unicode form, and refused where a run could not use them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

# A run writes "<stem>.overlay.png" beside its predictions; file systems allow 255 bytes for a name. The temporary
# name under which a file is written (see `registry.atomic`) holds only the first 40 characters, so it is shorter.
LONGEST_STEM_BYTES = 255 - len(".overlay.png")


def shown(path: Path | str) -> str:
    r"""Return a path as text that every terminal and file takes: other bytes than UTF-8 as ``\xe9``, tabs as ``\t``."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(repr(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in text)


def composed(name: str) -> str:
    """Return a name in the Unicode form NFC: macOS archives hold "é" as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def name_problem(name: str) -> str | None:
    """Return the reason why a file or folder name can't be used, with what to do; None for a sound name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return (
            "has a name that is not UTF-8, as archives made on Windows hold them; rename it, or convert the names of "
            "a whole folder: `convmv -r -f cp1252 -t utf-8 --notest FOLDER`."
        )
    if any(unicodedata.category(c) == "Cc" for c in name):
        return "has a control character (a line break or a tab, say) in its name; rename it."
    return None


def stem_problem(stem: str) -> str | None:
    """Return `name_problem` of a stem, or that it is too long for the files that a run names after it."""
    size = len(os.fsencode(stem))
    if size > LONGEST_STEM_BYTES:
        return (
            f"has a name of {size} bytes without its suffix; at most {LONGEST_STEM_BYTES} are allowed, because a run "
            "writes files named after it (NAME.overlay.png); shorten it for the image and its label map alike."
        )
    return name_problem(stem)
