"""Architecture of a backbone with a strategy, read from the built model and drawn for the method section of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(
    backbone: str,
    strategy: str,
    options: Mapping[str, Any] | None = None,
    *,
    head: str = "distance",
    image_size: int | None = None,
) -> Figure:
    """Return the figure of a backbone with a strategy; it takes a few seconds, and needs torch but no weights.

    Encoder, prompt encoder and decoder are boxes with shapes and numbers of parameters, coloured by what is frozen,
    trained or added; one block of the encoder is shown with each of its layers, and the equation of what is added.

    Args:
        backbone, strategy: registered names.
        options: of the strategy, other than its defaults.
        head: registered name; its mask tokens are trained, and its modules are part of the decoder.
        image_size: side of the input in pixels; that of the backbone's training by default.

    Raises:
        RegistryError: an unknown name, a strategy that can't be applied, or targets that don't fit the model.
    """
    from bench.architecture.draw import draw
    from bench.architecture.parts import read

    return draw(read(backbone, strategy, options=options or {}, head=head, image_size=image_size))
