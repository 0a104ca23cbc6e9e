"""Open image as bands of RGB rows: what all kinds of files offer, and the kind that is held in memory."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import UInt8


class Source(Protocol):
    """An open image.

    Attributes:
        height, width: in pixels.
        notes: what was done to the pixels, a sentence each; empty for a plain 8-bit RGB image.
    """

    height: int
    width: int
    notes: tuple[str, ...]

    def rows(self, top: int, bottom: int) -> UInt8[np.ndarray, "h width 3"]:
        """Return the rows from `top` up to, but not including, `bottom`; raises `DataError` on damaged bytes."""
        ...


class Whole:
    """An image that is held in memory.

    Args:
        rgb: its pixels.
        notes: what was done to them.
    """

    def __init__(self, rgb: UInt8[np.ndarray, "h w 3"], notes: tuple[str, ...] = ()) -> None:
        self.height, self.width = rgb.shape[:2]
        self.notes = notes
        self._rgb = rgb

    def rows(self, top: int, bottom: int) -> UInt8[np.ndarray, "h width 3"]:
        """Return a band of rows."""
        return self._rgb[top:bottom]
