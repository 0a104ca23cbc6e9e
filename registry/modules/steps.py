"""Steps of an image encoder's forward pass, by which a part of it can be computed in another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """A part of an encoder's forward pass.

    An encoder whose module has a method ``steps()`` returns them in order: the first takes the normalised images, each
    other one what the one before returned, and the last returns the embeddings. Together they do exactly what its
    `forward` does. The method is optional: encoders without it, or whose list is empty, are run as a whole.

    Attributes:
        parts: names in the encoder of the modules and parameters that it uses. No other step uses them.
        run: computes it.
        is_early: its output is one of the early feature maps on the card, (b, c, h, w).
    """

    parts: tuple[str, ...]
    run: Callable[[Tensor], Tensor]
    is_early: bool = False
