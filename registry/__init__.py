"""What users extend: backbones, strategies, heads and datasets. Imports nothing from `bench`."""

from registry import backbones, datasets, heads, strategies

__all__ = ["backbones", "datasets", "heads", "strategies"]
