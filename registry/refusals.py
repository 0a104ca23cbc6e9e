"""Messages about image and label files that can't be used."""

from __future__ import annotations

import math
from pathlib import Path

from registry import file_kind
from registry.names import shown


def unreadable(path: Path, what: str, error: BaseException | str) -> str:
    """Return the message about a file that is damaged, or of another kind: its first bytes tell which.

    Args:
        path: the file.
        what: the kind it should be: "PNG image", say.
        error: the reason; an error of the operating system stands for itself.
    """
    expected = what.split()[0]
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif (kind := _kind(path)) is not None and expected in kind:
        reason = str(error) or type(error).__name__
    else:
        reason = "its content is something else, or damaged" + (f" (it begins like {kind})" if kind else "")
    return (
        f"{shown(path)} can't be read as a {what}: {reason}. "
        "Copy the file anew from where it comes from, or remove image and label map."
    )


def too_large(path: Path, height: int, width: int, max_pixels: int) -> str:
    """Return the message about a file of too many pixels, with the command that cuts it."""
    return (
        f"{shown(path)} has {math.ceil(height * width / 1e6):,} MP ({height:,} × {width:,} pixels), more than the "
        f"{max_pixels // 1_000_000} MP that one image may have (a run holds about 90 bytes for each pixel): cut image "
        "and label map into tiles with `python -m registry.tiles IMAGE.png LABELS.tif NEW_ORGAN_FOLDER`."
    )


def _kind(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file_kind.of(file.read(64))
    except OSError:
        return None
