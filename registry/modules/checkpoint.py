"""Checkpoint files: read without running their code, and compared with a model by names and shapes."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from registry.card import Card
from registry.checkpoint_kind import is_pickle, wrong_content
from registry.contract import Backbone
from registry.errors import WeightsError

SHOWN_KEYS = 5
_CODE = re.compile(r"GLOBAL|Unsupported (global|class|operand)|allowed global", re.IGNORECASE)


def read(path: Path, card: Card) -> dict[str, Tensor]:
    """Return the state dict in an official file, under its official names.

    Raises:
        WeightsError: no file, a file that torch can't read or that holds code, or no tensors in it.
        OSError: the file can't be opened.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"{path} {reason}; give the file, or fetch it with `bench weights fetch {card.name}`.")
    with path.open("rb"):  # a denied permission is no damage
        pass
    try:
        file = _open(path, card)
        # A mapped file needs no memory of its own: the runs of a node share the pages of the first one that reads it.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=_can_be_mapped(file))
    except Exception as error:  # whatever damaged bytes lead the reader into
        if wrong := wrong_content(path, card.checkpoint.member if card.checkpoint else None):
            raise WeightsError(
                f"{path} {wrong}. Fetch the official file with `bench weights fetch {card.name}`."
            ) from error
        # "Unsupported operand" is said of noise too.
        holds_pickle = isinstance(error, pickle.UnpicklingError) and (zipfile.is_zipfile(path) or is_pickle(path))
        if holds_pickle and _CODE.search(str(error)):
            raise WeightsError(
                f"{path} was refused: it holds code, or objects that only code can rebuild. "
                f"Nothing was executed. Fetch the official file with `bench weights fetch {card.name}`."
            ) from error
        raise _unreadable(path, card, error) from error
    nested = card.checkpoint.nested_key if card.checkpoint else None
    if nested and isinstance(content, Mapping) and isinstance(content.get(nested), Mapping):
        content = content[nested]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        keys = (
            ", ".join(map(str, list(content)[:SHOWN_KEYS])) if isinstance(content, Mapping) else type(content).__name__
        )
        where = f"under the key {nested!r}" if nested else "at the top level"
        raise WeightsError(f"{path} holds no state dict {where}; it holds: {keys}.")
    return dict(content)


def converted(official: Mapping[str, Tensor], entry: Backbone) -> dict[str, Tensor]:
    """Return the tensors that the model needs, under the model's names."""
    unused = entry.card.checkpoint.unused_keys if entry.card.checkpoint else ()
    needed = {key: tensor for key, tensor in official.items() if key not in unused}
    return entry.convert(needed) if entry.convert else needed


def mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return the differences of two state dicts in names and shapes, in words; empty if there are none."""
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
    return "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in kinds if keys)


def suggest(official: Mapping[str, Tensor], candidates: Iterable[Backbone]) -> str:
    """Return a sentence that names the candidates whose checkpoint this is; empty where there are none."""
    fitting = [entry.card.name for entry in candidates if entry.card.checkpoint and _fits(entry, official)]
    return f" It looks like the checkpoint of {' or '.join(fitting)}." if fitting else ""


def _fits(entry: Backbone, official: Mapping[str, Tensor]) -> bool:
    try:
        with torch.device("meta"):
            own = entry.build(entry.card.native_image_size).state_dict()
        return not mismatch(own, converted(official, entry))
    except Exception:  # a candidate that can't be built, or a conversion that fails on foreign names, fits nothing
        return False


def _open(path: Path, card: Card) -> Path | io.BytesIO:
    """Return the torch file: the path, or the unpacked member of a zip archive that the card names."""
    member = card.checkpoint.member if card.checkpoint else None
    if member and zipfile.is_zipfile(path):  # torch's own files are zip archives too
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).name == member and not name.startswith("__MACOSX"):
                    return io.BytesIO(archive.read(name))
    return path


def _can_be_mapped(file: Path | io.BytesIO) -> bool:
    """Tell whether torch can map the file: it is on disk, in the format that torch has written since 1.6."""
    if isinstance(file, io.BytesIO):
        return False
    with file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _unreadable(path: Path, card: Card, error: Exception) -> WeightsError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return WeightsError(
        f"{path} is damaged or no torch checkpoint ({reason[:200]}). Fetch it anew with "
        f"`bench weights fetch {card.name}`."
    )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", …" if len(keys) > SHOWN_KEYS else "")
