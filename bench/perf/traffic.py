"""Bytes that the operations of a computation read and write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Traffic:
    """Bytes read and written so far.

    Every operation counts with its whole inputs and outputs: a cache that keeps a tensor between two operations, or a
    compiler that joins them, moves less. So it is what plain operations move at most.
    """

    n_bytes: int = 0


@contextmanager
def counted() -> Iterator[Traffic]:
    """Count the traffic of all operations inside the block, those of a backward pass included."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    traffic = Traffic()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if not func.is_view and "empty" not in func.name():
                tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
                traffic.n_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            return out

    with Count():
        yield traffic
