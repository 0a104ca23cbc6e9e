"""Checkpoints in the format of their authors, filled with the pseudo-random values of the golden outputs."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry import backbones

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


def golden(filename: str) -> Path:
    """Return a file of golden values; skips the test where it is absent."""
    path = GOLDEN / filename
    if not path.exists():
        pytest.skip(f"golden values are not there: {path}")
    return path


def image(seed: int = 7) -> torch.Tensor:
    """Return the golden image, (1, 3, 1024, 1024) in [0, 1]."""
    small = np.random.default_rng(seed).integers(0, 256, (37, 37, 3), dtype=np.uint8)
    large = np.kron(small, np.ones((28, 28, 1), np.uint8))[:1024, :1024]
    return torch.from_numpy(large.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """Return a state dict with the official keys and pseudo-random values."""
    keys: dict[str, Any] = json.loads(golden(f"{name}.keys.json").read_text())["state_dict"]
    return {
        key: filled(key, shape) if dtype == "float32" else torch.zeros(shape, dtype=getattr(torch, dtype))
        for key, (shape, dtype) in keys.items()
    }


def write(name: str, folder: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """Write a checkpoint with the official nesting and archive; returns its path."""
    checkpoint = backbones.card(name).checkpoint
    assert checkpoint is not None
    content: dict[str, Any] = state_dict(name) if tensors is None else tensors
    if checkpoint.nested_key:
        content = {checkpoint.nested_key: content}
    path = folder / checkpoint.filename
    if checkpoint.member is None:
        torch.save(content, path)
        return path
    torch.save(content, folder / checkpoint.member)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / checkpoint.member, checkpoint.member)
    return path


def filled(key: str, shape: list[int]) -> torch.Tensor:
    """Return the pseudo-random values of a tensor, by its official name."""
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(shape), dtype=np.float32)
    if key.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif len(shape) >= 2:
        x = x / np.float32(math.sqrt(math.prod(shape[1:])))
    elif key.endswith("weight"):
        x = 1 + 0.1 * x
    else:
        x = 0.1 * x
    return torch.from_numpy(np.asarray(x, dtype=np.float32))
