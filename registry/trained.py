"""Trained part of a model on disk: LoRA in PEFT's own format, the other trained parameters in a second file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry import strategies
from registry.atomic import replacing
from registry.errors import WeightsError
from registry.modules import finite

if TYPE_CHECKING:
    from registry.sam import Sam

LORA_WEIGHTS = "adapter_model.safetensors"
LORA_CONFIG = "adapter_config.json"
OTHERS = "trained.safetensors"
# PeftModel wraps the model twice; its files carry the wrappers' names.
PEFT_PREFIX = "base_model.model."
# One entry of metadata: safetensors would write several in an order that changes from call to call.
MARK = "trained"


def save(sam: Sam, strategy: str, folder: str | Path) -> int:
    """Write the trained part of a model.

    LoRA goes to ``adapter_model.safetensors`` and ``adapter_config.json``, which
    `peft.PeftModel.from_pretrained` reads; all other trainable parameters go to
    ``trained.safetensors``. Each file is moved into place whole. Running statistics of BatchNorm aren't
    written: no strategy changes them.

    Args:
        sam: a model with a strategy.
        strategy: the strategy's name.
        folder: where to write; made if it isn't there.

    Returns:
        Bytes written; 0, and no file, where nothing is trainable.

    Raises:
        WeightsError: the model carries another strategy.
        OSError: the folder can't be written.
    """
    mark = _mark(sam, strategy)
    lora, others = lora_state(sam), other_state(sam)
    if not lora and not others:
        return 0
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    n_bytes = _write(
        folder / OTHERS, lambda path: save_file(_plain(others), path, metadata={MARK: json.dumps(mark, sort_keys=True)})
    )
    if lora:
        prefixed = {PEFT_PREFIX + name: tensor for name, tensor in _plain(lora).items()}
        n_bytes += _write(folder / LORA_WEIGHTS, lambda path: save_file(prefixed, path, metadata={"format": "pt"}))
        # Last, so that a folder with a configuration has weights too.
        n_bytes += _write(folder / LORA_CONFIG, lambda path: _write_config(sam, path))
    return n_bytes


def load(sam: Sam, folder: str | Path) -> None:
    """Read what `save` wrote into a model with the same strategy and options; leaves it in eval mode.

    Args:
        sam: a model whose frozen part equals that of the saved one; changed in place.
        folder: where `save` wrote to.

    Raises:
        WeightsError: files that are missing or damaged, of another strategy or other options, with values that are
            not finite, or whose tensors are not exactly the trainable ones of the model. The model is unchanged then.
    """
    folder = Path(folder)
    lora, others = lora_state(sam), other_state(sam)
    if not lora and not others:
        return
    _compare_marks(folder / OTHERS, sam)
    read_others = _read(folder / OTHERS)
    read_lora: dict[str, Tensor] = {}
    if lora:
        _compare_configs(folder / LORA_CONFIG, sam)
        read_lora = {n.removeprefix(PEFT_PREFIX): t for n, t in _read(folder / LORA_WEIGHTS).items()}
    _compare_tensors(lora | others, read_lora | read_others, folder)
    if bad := finite.describe(read_lora | read_others):
        raise WeightsError(f"the tensors in {folder} hold {bad}. They were saved by a training that had diverged.")
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(read_others[name])
    if lora:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(sam, read_lora)
    # Clears what modules cache of their parameters, such as attention biases.
    sam.eval()


def lora_state(sam: Sam) -> dict[str, Tensor]:
    """Return LoRA's tensors by PEFT's names; empty without LoRA."""
    if not hasattr(sam, "peft_config"):
        return {}
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(sam, save_embedding_layers=False))


def other_state(sam: Sam) -> dict[str, Tensor]:
    """Return all trainable parameters but LoRA's, by their names in the model; they share its memory."""
    return {
        name: parameter.detach()
        for name, parameter in sam.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }


def _mark(sam: Sam, strategy: str) -> dict[str, Any]:
    applied = strategies.applied(sam)
    if applied is None or applied.name != strategy:
        carried = "no strategy" if applied is None else repr(applied.name)
        raise WeightsError(f"the model carries {carried}, not {strategy!r}; save it under the strategy it carries.")
    return {
        "backbone": sam.card.name,
        "strategy": strategy,
        "options": dict(applied.options),
        "tokens": list(applied.tokens),
    }


def _compare_marks(path: Path, sam: Sam) -> None:
    applied = strategies.applied(sam)
    if applied is None:
        raise WeightsError(f"{path} can't be loaded: the model carries no strategy; apply the one it was saved with.")
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads((file.metadata() or {}).get(MARK, "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path} can't be read ({error}); train again, or restore the file.") from error
    for key, expected in _mark(sam, applied.name).items():
        if saved.get(key) != expected:
            raise WeightsError(
                f"{path} was saved with {key} {saved.get(key)}, but the model has {expected}; "
                "build the model with the settings it was saved with."
            )


def _compare_configs(path: Path, sam: Sam) -> None:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read ({error}); train again, or restore the file.") from error
    config = _lora_config(sam)
    for key in ("r", "lora_alpha"):
        if saved.get(key) != getattr(config, key):
            raise WeightsError(
                f"{path} has {key} = {saved.get(key)}, but the model's LoRA has {getattr(config, key)}; "
                "apply the strategy with the rank it was saved with."
            )


def _compare_tensors(expected: dict[str, Tensor], saved: dict[str, Tensor], folder: Path) -> None:
    shapes = [
        f"{name} is {tuple(saved[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & saved.keys())
        if saved[name].shape != expected[name].shape
    ]
    groups = {
        "missing": sorted(expected.keys() - saved.keys()),
        "unexpected": sorted(saved.keys() - expected.keys()),
        "of another shape": shapes,
    }
    problems = [f"{group}: {', '.join(names)}" for group, names in groups.items() if names]
    if problems:
        raise WeightsError(
            f"the tensors in {folder} are not those the model trains; {'; '.join(problems)}. "
            "Load them into the same backbone, strategy and options."
        )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} can't be read ({error}); train again, or restore the file.") from error


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses strides, which channels-last convolutions have.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _lora_config(sam: Sam) -> Any:
    configs: Any = sam.peft_config
    return configs["default"]


def _write_config(sam: Sam, path: Path) -> None:
    with TemporaryDirectory() as folder:  # peft chooses the file's name itself
        _lora_config(sam).save_pretrained(folder)
        config = json.loads(Path(folder, LORA_CONFIG).read_text(encoding="utf-8"))
    # peft holds the names in a set, whose order would differ from process to process.
    config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True  # as PeftModel.save_pretrained writes it
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _write(path: Path, write: Callable[[Path], None]) -> int:
    """Write a file by `write` and move it to `path` when it is whole; returns its bytes."""
    with replacing(path) as temporary:
        write(temporary)
        return temporary.stat().st_size
