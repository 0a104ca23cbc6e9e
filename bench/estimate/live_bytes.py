"""Bytes of the tensors that exist while a step runs, fake ones included."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class LiveBytes:
    """Bytes of the storages that exist, and the largest sums so far.

    Attributes:
        activations: everything but the model's weights and copies of them.
        copies: copies of weights in another precision.
    """

    activations: int = 0
    copies: int = 0
    activations_peak: int = 0
    copies_peak: int = 0

    def add(self, storage: Any, is_copy: bool) -> None:
        size = storage.nbytes()
        if is_copy:
            self.copies += size
            self.copies_peak = max(self.copies, self.copies_peak)
        else:
            self.activations += size
            self.activations_peak = max(self.activations, self.activations_peak)
        weakref.finalize(storage, self._subtract, size, is_copy)

    def _subtract(self, size: int, is_copy: bool) -> None:
        if is_copy:
            self.copies -= size
        else:
            self.activations -= size


@contextmanager
def tracked_storages(weights: Sequence[Tensor]) -> Iterator[LiveBytes]:
    """Count every storage that is created inside the block; those of the model's `weights` exist already."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    weight_storages: set[Any] = {_storage_key(tensor) for tensor in weights}
    alive: set[Any] = set(weight_storages)
    live = LiveBytes()

    class TrackStorages(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            is_copy = func is torch.ops.aten._to_copy.default and _storage_key(args[0]) in weight_storages
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and (key := _storage_key(tensor)) not in alive:
                    alive.add(key)
                    storage = tensor.untyped_storage()
                    weakref.finalize(storage, alive.discard, key)
                    live.add(storage, is_copy)
            return out

    with TrackStorages():
        yield live


def _storage_key(tensor: Tensor) -> Any:
    return tensor.untyped_storage()._cdata
