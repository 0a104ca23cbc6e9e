"""The trainability audit: what is said to be trained is trained, and saving keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import AuditError
from registry import trained
from registry.errors import WeightsError
from registry.modules.bottleneck import Bottleneck
from registry.sam import Sam

# Of the order of the layers' own initialisation: it leaves LoRA's B = 0 behind and saturates nothing.
NOISE = 0.02
PASSES = 3
# Relative to the largest logit. On the CPU the difference is 0; GPU kernels may add up in another order.
TOLERANCE = 1e-4
NAMES_SHOWN = 40


class Batch(Protocol):
    """What one optimiser step sees."""

    @property
    def images(self) -> Float[Tensor, "b 3 h w"]: ...

    @property
    def targets(self) -> Float[Tensor, "b c t t"]: ...


def audit(
    sam: Sam,
    *,
    batch: Batch,
    logits: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b c h/4 w/4"]],
    loss: Callable[[Float[Tensor, "b c h/4 w/4"], Float[Tensor, "b c t t"]], Float[Tensor, ""]],
    optimizer: torch.optim.Optimizer | None,
    fresh: Callable[[], Sam],
    strategy: str,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    seed: int = 0,
) -> dict[str, Any]:
    """Check that what is said to be trained is trained, and that saving keeps it.

    The parameters that ask for a gradient, those that receive one in a real backward pass and those that the
    optimiser holds must be one set, and the one a fresh model asks for. BatchNorm must be in eval mode. The
    trained part, saved and loaded into a fresh model, must predict the same.

    A gradient that is zero throughout counts as none: unread hypernetworks receive zeros, not None. As LoRA's
    A rightly gets zeros while B is zero, all trainable parameters are moved by a little noise first.
    Afterwards parameters, gradients, modes and random state are what they were.

    Args:
        sam: a model in the mode it is to be trained in, see `set_training_mode`.
        batch: real images and the head's targets, on any device; used one image at a time.
        logits: `sam`'s logits of images, as in training. Not called if nothing is trainable.
        loss: from logits and targets, as in training.
        optimizer: the one that is to train the model; None where nothing is trained.
        fresh: builds the model anew: same backbone, weights, strategy, options and seed.
        strategy: name of the strategy that was applied.
        autocast: gives the context that forward passes run in; float32 by default.
        seed: of the noise.

    Returns:
        For the record: ``n_asked``, ``n_received``, ``n_held``, ``names_sha256`` (of the sorted names, one a
        line), ``batchnorm_frozen`` (modules), ``roundtrip_max_abs_difference`` (of the logits), ``ok``.

    Raises:
        AuditError: a mismatch; the text groups the offenders' names by what is wrong with them.
    """
    modes = {module: module.training for module in sam.modules()}
    asking = _asking(sam)
    originals = {name: parameter.detach().cpu().clone() for name, parameter in asking.items()}
    gradients = {parameter: parameter.grad for parameter in sam.parameters()}
    device = sam.pixel_mean.device
    devices = [device] if device.type == "cuda" else []
    images, targets = batch.images.to(device), batch.targets.to(device)

    def loss_of(index: int) -> Tensor:
        start = index % len(images)
        one = slice(start, start + 1)  # a single image, so that the audit needs no more memory than training
        return loss(logits(images[one]), targets[one])

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=devices):
        try:
            received = _receiving(sam, asking, loss_of, max(PASSES, len(images)), autocast, generator)
            held, strangers = _held(sam, optimizer)
            model = fresh().to(device)
            _raise(_mismatches(sam, model, set(asking), received, held, strangers))
            sam.eval()
            difference = _roundtrip(sam, model, strategy, images[:1], autocast)
        finally:
            with torch.no_grad():
                for name, original in originals.items():
                    asking[name].copy_(original)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
            sam.train()  # modules that cache what they derive from parameters forget it now
            for module, mode in modes.items():
                module.training = mode
    return {
        "n_asked": len(asking),
        "n_received": len(received),
        "n_held": len(held),
        "names_sha256": hashlib.sha256("\n".join(sorted(asking)).encode()).hexdigest(),
        "batchnorm_frozen": sum(isinstance(module, _BatchNorm) for module in sam.modules()),
        "roundtrip_max_abs_difference": difference,
        "ok": True,
    }


def _receiving(
    sam: Sam,
    asking: Mapping[str, nn.Parameter],
    loss_of: Callable[[int], Tensor],
    passes: int,
    autocast: Callable[[], AbstractContextManager[Any]],
    generator: torch.Generator,
) -> set[str]:
    received: set[str] = set()
    # One pass does, but for an image without nuclei, or stochastic depth that leaves out a block.
    for index in range(passes):
        if len(received) == len(asking):
            break
        with torch.no_grad():
            for parameter in asking.values():
                noise = torch.randn(parameter.shape, generator=generator) * NOISE
                parameter.add_(noise.to(parameter))
        sam.zero_grad()
        with autocast():
            value = loss_of(index)
        value.backward()
        received |= {name for name, p in sam.named_parameters() if p.grad is not None and bool(p.grad.any())}
    sam.zero_grad()
    return received


def _held(sam: Sam, optimizer: torch.optim.Optimizer | None) -> tuple[set[str], list[str]]:
    """Names of the model's parameters in the optimiser, and descriptions of others there."""
    names = {id(parameter): name for name, parameter in sam.named_parameters()}
    groups = [] if optimizer is None else optimizer.param_groups
    parameters: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
    held = {names[id(parameter)] for parameter in parameters if id(parameter) in names}
    return held, [f"a tensor of shape {tuple(p.shape)}" for p in parameters if id(p) not in names]


def _mismatches(
    sam: Sam, model: Sam, asked: set[str], received: set[str], held: set[str], strangers: list[str]
) -> dict[str, Iterable[str]]:
    intended = set(_asking(model))
    return {
        "asks for a gradient but receives nothing": asked - received,
        "receives a gradient but is not held by the optimiser": received - held,
        "is held by the optimiser but doesn't ask for a gradient": held - asked,
        "is held by the optimiser but not part of the model": strangers,
        "is trained by the strategy but frozen here": intended - asked,
        "is trained here but not by the strategy": asked - intended,
        "was added by the strategy but is frozen": _added(sam) - asked,
        "is a BatchNorm in training mode": {
            name for name, module in sam.named_modules() if isinstance(module, _BatchNorm) and module.training
        },
    }


def _added(sam: Sam) -> set[str]:
    lora = {name for name, _ in sam.named_parameters() if ".lora_" in name}
    bottlenecks = (name for name, module in sam.named_modules() if isinstance(module, Bottleneck))
    return lora | {f"{name}.{p}" for name in bottlenecks for p, _ in sam.get_submodule(name).named_parameters()}


def _roundtrip(
    sam: Sam, model: Sam, strategy: str, images: Tensor, autocast: Callable[[], AbstractContextManager[Any]]
) -> float:
    """Largest difference of the logits after saving, and loading into another model."""
    with TemporaryDirectory(prefix="audit-") as folder:
        try:
            trained.save(sam, strategy, folder)
            trained.load(model, folder)
        except WeightsError as error:
            raise AuditError(f"the trained part can't be saved and loaded again: {error}") from error
    mine, its = sam.state_dict(), model.state_dict()
    differing = {name for name in mine.keys() | its.keys() if not _equal(mine.get(name), its.get(name))}
    _raise({"differs after saving and loading": differing})
    with torch.no_grad(), autocast():
        before = sam.decode(sam.encode(images))[0]
        after = model.eval().decode(model.encode(images))[0]
    difference = float((before - after).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(before.abs().max())):
        raise AuditError(
            f"after saving and loading the trained part, logits differ by up to {difference:.3g} though all "
            "parameters agree; something else differs between the model and a fresh one: a hook, a setting "
            "or a buffer that isn't saved."
        )
    return difference


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


def _raise(problems: Mapping[str, Iterable[str]]) -> None:
    groups = [f"{problem}: {_listed(sorted(names))}" for problem, names in problems.items() if names]
    if groups:
        raise AuditError("the trainability audit failed. " + "; ".join(groups) + ".")


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _asking(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
