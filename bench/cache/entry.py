"""One cached array on disk: half precision, with a checksum, written whole or not at all."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from registry.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
_NAME = "embedding"


class DamagedEntryError(Exception):
    """A file that is truncated, or does not hold what was written."""


def rounded(values: Tensor) -> Tensor:
    """Return values in the precision in which they are kept, on the CPU.

    bfloat16 stays as it is. Others become float16, whose rounding is 2^-11 of a value; values beyond its range
    (65,504) become bfloat16, with 2^-8.
    """
    import torch

    if values.dtype != torch.bfloat16:
        fits = bool(values.abs().max() <= torch.finfo(torch.float16).max)
        values = values.to(torch.float16 if fits else torch.bfloat16)
    return values.detach().cpu().contiguous()


def as_computed(kept: Tensor, dtype: str) -> Tensor:
    """Return kept values as a copy in the type that the encoder computes: ``float32``, or ``bfloat16`` as they are."""
    import torch

    return kept.clone() if dtype == "bfloat16" else kept.to(torch.float32)


def write(path: Path, kept: Tensor) -> None:
    """Write values that `rounded` returned.

    A machine that fails may leave an empty file, which `read` recognises: waiting for the disk would cost more than
    computing the few entries again.

    Raises:
        OSError: no room or no permission.
    """
    from safetensors.torch import save

    content = save({_NAME: kept}, metadata={"crc32": str(_checksum(kept))})
    with replacing(path, sync=False) as temporary:
        temporary.write_bytes(content)


def read(path: Path, *, verify: bool) -> Tensor:
    """Return the values of a file, mapped into memory; copy what is to be kept (see `as_computed`).

    Args:
        path: the file.
        verify: compare the checksum, for which all bytes are read.

    Raises:
        DamagedEntryError: the file is truncated or damaged.
        OSError: no such file, or it can't be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata, kept = file.metadata() or {}, file.get_tensor(_NAME)
    except SafetensorError as error:
        raise DamagedEntryError(str(error)) from error
    if verify and metadata.get("crc32") != str(_checksum(kept)):
        raise DamagedEntryError("its checksum is wrong")
    result: Tensor = kept
    return result


def _checksum(kept: Tensor) -> int:
    import torch

    return zlib.crc32(kept.view(torch.uint8).numpy().data)
