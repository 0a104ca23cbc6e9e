"""Python code of a model card, by which the model is loaded; tests execute it as it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from registry.loading import Recipe

SEGMENT = '''\
{imports}import numpy as np
import torch
import torch.nn.functional as F

import registry
from registry.resampling import pixels_of_tile, resample{more}

sam = registry.load(".")  # the folder of this file{weights}
head = registry.heads.get({head})
parameters = {parameters}

{starts}
def predict(image: np.ndarray) -> torch.Tensor:
    """Return the head's logits, of shape (c, h, w), in an RGB image, uint8 of shape (h, w, 3)."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    height, width = pixels.shape[-2:]
    scale = {scale}
    inner = max(1, round(scale * height)), max(1, round(scale * width))
    pixels = F.interpolate(pixels, inner, mode="bilinear", antialias=scale < 1).clamp(0, 1)
    size = sam.image_size
    sides = max(size, inner[0]), max(size, inner[1])
    padded = pixels.mean((2, 3), keepdim=True).repeat(1, 1, *sides)
    padded[..., : inner[0], : inner[1]] = pixels
{logits}

def segment(image: np.ndarray) -> np.ndarray:
    """Return the nuclei, int32 ids of shape (h, w), in an RGB image, uint8 of shape (h, w, 3)."""
{instances}'''

ONE_INPUT = """\
    with torch.inference_mode():
        logits = sam(padded)[0][0, list(head.channels)]
    _, rows = pixels_of_tile(0, size=size, length=height, scaled=inner[0], cells=logits.shape[-1])
    _, columns = pixels_of_tile(0, size=size, length=width, scaled=inner[1], cells=logits.shape[-1])
    return resample(logits, rows, columns)
"""

STARTS = '''
def starts(length: int, size: int) -> list[int]:
    """Return the first pixels of tiles that cover a length and overlap by a quarter."""
    count = max(1, math.ceil((length - size // 4) / (size - size // 4)))
    return [round(i * (length - size) / max(1, count - 1)) for i in range(count)]

'''

TILES = """\
    total, weight = torch.zeros(len(head.channels), height, width), torch.zeros(height, width)
    for top, left in itertools.product(starts(sides[0], size), starts(sides[1], size)):
        with torch.inference_mode():
            logits = sam(padded[..., top : top + size, left : left + size])[0][0, list(head.channels)]
        cells = logits.shape[-1]
        first_row, rows = pixels_of_tile(top, size=size, length=height, scaled=inner[0], cells=cells)
        first_column, columns = pixels_of_tile(left, size=size, length=width, scaled=inner[1], cells=cells)
        near = [torch.from_numpy(weights_in_tile(span, cells=cells, size=size)) for span in (rows, columns)]
        window = torch.minimum(near[0][:, None], near[1])  # less weight near the edges of a tile
        tile = ..., slice(first_row, first_row + rows.size), slice(first_column, first_column + columns.size)
        total[tile] += window * resample(logits, rows, columns)
        weight[tile] += window
    return total / weight
"""

ONCE = """\
    return head.instances(predict(image), **parameters)
"""

TURNED = """\
    views = [np.rot90(image, turn) for turn in range(4)]  # the run predicted so: the mean of eight orientations
    logits = [predict(view) for view in views] + [predict(view[:, ::-1]).flip(-1) for view in views]
    turned_back = [torch.rot90(maps, -turn, (-2, -1)) for turn, maps in zip([*range(4), *range(4)], logits)]
    return head.instances(sum(turned_back) / 8, **parameters)
"""
PLAIN = """\
{imports}from safetensors.torch import load_file

from registry import backbones

{seed}sam = backbones.build({backbone}, {image_size}{checkpoint})
sam.load_state_dict(load_file("trained.safetensors"), strict=False)
"""


def segment(recipe: Recipe) -> str:
    """Return the code that loads an exported folder with `registry` alone and segments an image.

    Args:
        recipe: of the model; its head reads logits.
    """
    whole = recipe.scale is None
    return SEGMENT.format(
        weights="" if recipe.weights == "random" else '; weights="DIR" is that of the official checkpoints',
        head=_literal(recipe.head),
        parameters=_parameters(recipe.post_processing),
        imports="" if whole else "import itertools\nimport math\n\n",
        more="" if whole else ", weights_in_tile",
        starts="" if whole else STARTS,
        logits=ONE_INPUT if whole else TILES,
        scale="sam.image_size / max(height, width)" if whole else repr(float(recipe.scale or 0)),
        instances=TURNED if recipe.tta else ONCE,
    )


def plain(recipe: Recipe, *, checkpoint: str | None, has_adapter: bool) -> str:
    """Return the code that puts the trained part on the plain backbone, without the strategy's code.

    Args:
        recipe: of the model.
        checkpoint: name of the official file; None with random weights.
        has_adapter: PEFT is to load an adapter.
    """
    from_seed = checkpoint is None
    imports = ("import torch\n" if from_seed else "") + ("from peft import PeftModel\n" if has_adapter else "")
    code = PLAIN.format(
        imports=imports,
        seed=f"torch.manual_seed({recipe.seed})  # the backbone's weights were random\n" if from_seed else "",
        backbone=_literal(recipe.backbone),
        image_size=recipe.image_size,
        checkpoint="" if checkpoint is None else f", checkpoint={_literal(checkpoint)}",
    )
    return code + ('model = PeftModel.from_pretrained(sam, ".").eval()\n' if has_adapter else "")


def _parameters(values: Mapping[str, float]) -> str:
    inner = ", ".join(f"{_literal(name)}: {float(value)!r}" for name, value in values.items())
    return "{" + inner + "}"


def _literal(text: str) -> Any:
    """Return a name as a Python literal in ASCII; JSON's strings are Python's."""
    return json.dumps(text)
