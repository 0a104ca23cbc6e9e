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

sam = registry.load(".")  # the folder of this file{weights}
head = registry.heads.get({head})
parameters = {parameters}

{starts}
def segment(image: np.ndarray) -> np.ndarray:
    """Return the nuclei, int32 ids of shape (h, w), in an RGB image, uint8 of shape (h, w, 3)."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    height, width = pixels.shape[-2:]
    scale = {scale}
    inner = max(1, round(scale * height)), max(1, round(scale * width))
    pixels = F.interpolate(pixels, inner, mode="bilinear", antialias=scale < 1).clamp(0, 1)
    size = sam.image_size
{logits}\
    logits = F.interpolate(logits[..., : inner[0], : inner[1]], (height, width), mode="bilinear", antialias=scale > 1)
    return head.instances(logits[0], **parameters)
'''

ONE_INPUT = """\
    padded = pixels.mean((2, 3), keepdim=True).repeat(1, 1, size, size)
    padded[..., : inner[0], : inner[1]] = pixels
    with torch.inference_mode():
        logits, _ = sam(padded)
    logits = F.interpolate(logits[:, list(head.channels)], padded.shape[-2:], mode="bilinear")
"""

STARTS = '''
def starts(length: int, size: int) -> list[int]:
    """Return the first pixels of tiles that cover a length and overlap by a quarter."""
    count = max(1, math.ceil((length - size // 4) / (size - size // 4)))
    return [round(i * (length - size) / max(1, count - 1)) for i in range(count)]

'''

TILES = """\
    sides = max(size, inner[0]), max(size, inner[1])
    padded = pixels.mean((2, 3), keepdim=True).repeat(1, 1, *sides)
    padded[..., : inner[0], : inner[1]] = pixels
    ramp = torch.minimum(torch.arange(1, size + 1), torch.arange(size, 0, -1))
    window = torch.minimum(ramp[:, None], ramp).clamp(max=size // 4).float()  # less weight near the edges of a tile
    total, weight = torch.zeros(1, len(head.channels), *sides), torch.zeros(sides)
    with torch.inference_mode():
        for top in starts(sides[0], size):
            for left in starts(sides[1], size):
                tile = ..., slice(top, top + size), slice(left, left + size)
                logits, _ = sam(padded[tile])
                total[tile] += window * F.interpolate(logits[:, list(head.channels)], (size, size), mode="bilinear")
                weight[tile] += window
    logits = total / weight
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
    return SEGMENT.format(
        weights="" if recipe.weights == "random" else '; weights="DIR" is that of the official checkpoints',
        head=_literal(recipe.head),
        parameters=_parameters(recipe.post_processing),
        imports="" if recipe.scale is None else "import math\n\n",
        starts="" if recipe.scale is None else STARTS,
        logits=ONE_INPUT if recipe.scale is None else TILES,
        scale="sam.image_size / max(height, width)" if recipe.scale is None else repr(float(recipe.scale)),
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
