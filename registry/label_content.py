"""Contents of a label map that are legal integers and yet no label map: masks, classes, swapped background."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from registry.contract import LabelMap

# The smallest nucleus in the 23 images of NuInsSeg at hand has 9 px: smaller pieces are slips of the annotator's hand.
_NUCLEUS_PIXELS = 9
_MOST_CLASSES = 8


def problem(label_map: LabelMap, largest: int) -> str | None:
    """Return the reason why a map can't be one of labels; None if it may be.

    A mask of several nuclei is refused and not just noted: read as labels, all of them would be one nucleus, and every
    score would be wrong. One nucleus labelled 1 or 255 passes.

    Args:
        label_map: the values as read.
        largest: the largest value that the file's type can hold; masks use it, too.
    """
    labels = np.unique(label_map[label_map > 0])
    if labels.size != 1 or int(labels[0]) not in (1, 255, largest):
        return None
    areas = _areas(label_map)
    if (areas >= _NUCLEUS_PIXELS).sum() < 2:
        return None
    return (
        f"is a binary mask in {areas.size} pieces (its only values are 0 and {labels[0]}), not a label map: give every "
        "nucleus its own integer. In ImageJ, Analyze > Analyze Particles with 'Show: Count Masks' numbers the pieces, "
        "but nuclei that touch stay one piece: take the labels that the mask was made from, if there are any. (If it "
        "is one nucleus in several pieces, give it another label, 2 say.)"
    )


def notes(label_map: LabelMap) -> list[str]:
    """Return one sentence, without the file's name, for each thing that is legal and unusual."""
    labels, areas = np.unique(label_map, return_counts=True)
    nuclei, nucleus_areas = labels[labels > 0], areas[labels > 0]
    if nuclei.size == 0:
        return ["is all zero: an image without nuclei."]
    sentences = []
    if nuclei.size == labels.size:
        sentences.append("has no background: no pixel is 0.")
    elif 2 * nucleus_areas.max() > label_map.size:
        label = nuclei[nucleus_areas.argmax()]
        share = 100 * nucleus_areas.max() / label_map.size
        sentences.append(f"gives {share:.0f} % of the image to label {label}: is that the background?")
    if nuclei.size == 1 and (pieces := _areas(label_map)).size > 1:
        sentences.append(
            f"holds the one label {nuclei[0]}: is it a binary mask rather than a label map? It has "
            f"{pieces.size} pieces."
        )
    elif nuclei.size == 1 and nuclei[0] == 255:
        sentences.append("holds the one label 255: is it a binary mask rather than a label map?")
    elif 1 < nuclei.size <= _MOST_CLASSES:
        pieces = _areas(label_map)
        if (n := int((pieces >= _NUCLEUS_PIXELS).sum())) >= 3 * nuclei.size:
            sentences.append(f"has {nuclei.size} labels in {n} pieces: are they classes rather than nuclei?")
    return sentences


def _areas(label_map: LabelMap) -> Int[np.ndarray, " n"]:
    """Return the areas of the connected pieces of equal labels, in pixels; diagonal neighbours are connected."""
    from skimage.measure import label

    return np.bincount(label(label_map, connectivity=2, background=0).ravel())[1:]
