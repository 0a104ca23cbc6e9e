"""Trained part of a model on disk: LoRA in PEFT's own format, the other trained parameters in a second file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry import export_adapter, export_layers, strategies
from registry.atomic import replacing
from registry.errors import WeightsError
from registry.export_layers import lora_state
from registry.modules import batchnorm, finite

if TYPE_CHECKING:
    from registry.sam import Sam

LORA_WEIGHTS = "adapter_model.safetensors"
LORA_CONFIG = "adapter_config.json"
OTHERS = "trained.safetensors"
# PeftModel wraps the model twice; its files carry the wrappers' names.
PEFT_PREFIX = "base_model.model."
# One entry of metadata: safetensors would write several in an order that changes from call to call.
MARK = "trained"
STATISTICS = "batchnorm_statistics"
"""Key of that metadata: True for files that hold BatchNorm's running statistics."""
PLAIN = "plain"
"""Value of ``layers`` in the metadata of files with the plain backbone's names (see `registry.export_layers`)."""


def save(sam: Sam, strategy: str, folder: str | Path) -> int:
    """Write the trained part of a model.

    LoRA goes to ``adapter_model.safetensors`` and ``adapter_config.json``, which
    `peft.PeftModel.from_pretrained` reads; all other trainable parameters go to
    ``trained.safetensors``, and with them BatchNorm's running statistics where they are not the backbone's
    (``train.batchnorm``). Each file is moved into place whole.

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
    return _write_all(Path(folder), lora, others, mark, peft_config(sam) if lora else {})


def save_plain(sam: Sam, folder: str | Path) -> int:
    """Write the trained part of a model by the names of the plain backbone, whose layers no strategy has split.

    The files are those of `save`; `load` reads them too. ``peft.PeftModel.from_pretrained`` puts the adapter on the
    backbone as `registry.backbones.build` returns it, after ``load_state_dict`` with the other parameters.

    Args:
        sam: a model with a strategy that trains something.
        folder: where to write; made if it isn't there.

    Returns:
        Bytes written.

    Raises:
        StrategyError: an adapter that the plain layers can't carry.
        OSError: the folder can't be written.
    """
    applied = strategies.applied(sam)
    mark = _mark(sam, "" if applied is None else applied.name) | {"layers": PLAIN}
    lora, others = lora_state(sam), other_state(sam)
    export_adapter.check_layers(sam)
    config = export_adapter.plain_config(sam, peft_config(sam), lora) if lora else {}
    plain_lora, plain_others = export_layers.plain_adapter(sam, lora), export_layers.plain_others(sam, others)
    return _write_all(Path(folder), plain_lora, plain_others, mark, config)


def _write_all(
    folder: Path,
    lora: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    mark: Mapping[str, Any],
    config: Mapping[str, Any],
) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {MARK: json.dumps(mark, sort_keys=True)}
    n_bytes = _write(folder / OTHERS, lambda path: save_file(_contiguous(others), path, metadata=metadata))
    if lora:
        prefixed = {PEFT_PREFIX + name: tensor for name, tensor in _contiguous(lora).items()}
        n_bytes += _write(folder / LORA_WEIGHTS, lambda path: save_file(prefixed, path, metadata={"format": "pt"}))
        # Last, so that a folder with a configuration has weights too.
        text = json.dumps(config, indent=2, sort_keys=True)
        n_bytes += _write(folder / LORA_CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    return n_bytes


def load(sam: Sam, folder: str | Path) -> None:
    """Read what `save` or `save_plain` wrote into a model with the same strategy and options; leaves it in eval mode.

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
    mark = _compare_marks(folder / OTHERS, sam)
    is_plain = mark.get("layers") == PLAIN
    if mark.get(STATISTICS):
        others |= batchnorm.statistics(sam)
    read_others = _read(folder / OTHERS)
    read_lora: dict[str, Tensor] = {}
    if lora:
        _compare_configs(folder / LORA_CONFIG, sam, is_plain=is_plain)
        read_lora = {n.removeprefix(PEFT_PREFIX): t for n, t in _read(folder / LORA_WEIGHTS).items()}
    if is_plain:
        expected = export_layers.plain_adapter(sam, lora) | export_layers.plain_others(sam, others)
        _compare_tensors(expected, read_lora | read_others, folder)
        read_lora = export_layers.scatter(read_lora, export_layers.lora_places(sam, lora))
        own = export_layers.own_places(sam)
        read_others = export_layers.scatter(read_others, {name: own[name] for name in others})
    _compare_tensors(lora | others, read_lora | read_others, folder)
    if bad := finite.describe(read_lora | read_others):
        raise WeightsError(f"the tensors in {folder} hold {bad}. They were saved by a training that had diverged.")
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(read_others[name])
    if lora:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(sam, read_lora)
    if mark.get(STATISTICS):
        batchnorm.mark_own(sam)
    # Clears what modules cache of their parameters, such as attention biases.
    sam.eval()


def other_state(sam: Sam) -> dict[str, Tensor]:
    """Return what is trained but LoRA, by names in the model: parameters and statistics, which share its memory."""
    return {**batchnorm.own_statistics(sam)} | {
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
        **({STATISTICS: True} if batchnorm.has_own(sam) else {}),
    }


def _compare_marks(path: Path, sam: Sam) -> Mapping[str, Any]:
    """Return what the file says of the model it was saved from; raises `WeightsError` if that is another one."""
    applied = strategies.applied(sam)
    if applied is None:
        raise WeightsError(f"{path} can't be loaded: the model carries no strategy; apply the one it was saved with.")
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads((file.metadata() or {}).get(MARK, "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path} can't be read ({error}); train again, or restore the file.") from error
    for key, expected in _mark(sam, applied.name).items():
        own = saved.get(key)
        if key == "options" and isinstance(own, dict) and saved.get("strategy") == applied.name:
            own = {**strategies.get(applied.name).neutral, **own}  # saved before the strategy had all its options
        if own != expected:
            raise WeightsError(
                f"{path} was saved with {key} {saved.get(key)}, but the model has {expected}; "
                "build the model with the settings it was saved with."
            )
    return dict(saved)


def _compare_configs(path: Path, sam: Sam, *, is_plain: bool) -> None:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read ({error}); train again, or restore the file.") from error
    config = peft_config(sam)
    if is_plain:
        config = export_adapter.plain_config(sam, config, lora_state(sam))
    for key in ("r", "lora_alpha"):
        if saved.get(key) != config.get(key):
            raise WeightsError(
                f"{path} has {key} = {saved.get(key)}, but the model's LoRA has {config.get(key)}; "
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


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses strides, which channels-last convolutions have.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def peft_config(sam: Sam) -> dict[str, Any]:
    """Return the configuration of a model's adapter as PEFT writes it, in an order that doesn't change."""
    configs: Any = sam.peft_config
    with TemporaryDirectory() as folder:  # peft chooses the file's name itself
        configs["default"].save_pretrained(folder)
        config: dict[str, Any] = json.loads(Path(folder, LORA_CONFIG).read_text(encoding="utf-8"))
    # peft holds the names in a set, whose order would differ from process to process.
    config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True  # as PeftModel.save_pretrained writes it
    return config


def _write(path: Path, write: Callable[[Path], Any]) -> int:
    """Write a file by `write` and move it to `path` when it is whole; returns its bytes."""
    with replacing(path) as temporary:
        write(temporary)
        return temporary.stat().st_size
