"""Trainability audit: exactly the parameters that a strategy means to train are trained, and saving keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import AuditError
from bench.training.data import Batch
from registry import trained
from registry.errors import WeightsError
from registry.modules.bottleneck import Bottleneck
from registry.sam import Sam

Autocast = Callable[[], AbstractContextManager[Any]]
Loss = Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b c t t"]], Float[Tensor, ""]]

# Of the order of the layers' own initialisation: it makes LoRA's B differ from 0 and saturates nothing.
NOISE = 0.02
PASSES = 3
# Relative to the largest logit. On the CPU the difference is 0; GPU kernels may add up in another order.
TOLERANCE = 1e-4
NAMES_SHOWN = 40


def audit(
    sam: Sam,
    *,
    batch: Batch,
    loss: Loss,
    optimizer: torch.optim.Optimizer | None,
    fresh: Callable[[], Sam],
    strategy: str,
    autocast: Autocast = nullcontext,
    seed: int = 0,
    batchnorm: str = "frozen",
) -> dict[str, Any]:
    """Check that exactly the parameters that should be trained are trained, and that saving keeps them.

    The parameters with ``requires_grad``, those that receive a gradient in a real backward pass and those in the
    optimiser must be one set, and the set that requires a gradient in a fresh model. BatchNorm must be in eval mode.
    The trained part, saved and loaded into a fresh model, must predict the same.

    A gradient of zeros counts as none: hypernetworks that nobody reads receive zeros, not None. LoRA's A rightly gets
    zeros while B is zero, so a little noise is added to all trainable parameters first. Afterwards parameters,
    gradients, modes and random state are what they were.

    Args:
        sam: a model in the mode it is to be trained in, see `bench.training.model.set_training_mode`.
        batch: real images and the head's targets, on any device; used one image at a time.
        loss: of `sam`, from images and targets, as in training. Not called if nothing is trainable.
        optimizer: the optimiser of the training; None where nothing is trained.
        fresh: builds the model anew: same backbone, weights, strategy, options and seed.
        strategy: name of the strategy that was applied.
        autocast: gives the context that forward passes run in; float32 by default.
        seed: of the noise.
        batchnorm: choice of the training, see `bench.settings.TrainSettings`.

    Returns:
        For the record: ``n_asked`` (requires a gradient), ``n_received`` (a gradient), ``n_held`` (by the optimiser),
        ``names_sha256`` (of the sorted names, each on a line), ``batchnorm_frozen`` (modules
        whose running statistics no step changes), ``batchnorm`` (the choice, if it is not ``frozen``),
        ``roundtrip_max_abs_difference`` (of the logits), ``ok``.

    Raises:
        AuditError: a mismatch; the text lists the names of the parameters under what is wrong with them.
    """
    trainable, device = _trainable(sam), sam.pixel_mean.device
    batch = Batch(batch.images.to(device), batch.targets.to(device))
    with _left_unchanged(sam, trainable):
        receiving = _receiving(sam, trainable, batch, loss, autocast, seed)
        in_optimizer, foreign = _optimizer_content(sam, optimizer)
        reference = fresh().to(device)
        _raise(_mismatches(sam, reference, receiving, in_optimizer, foreign))
        sam.eval()
        difference = _roundtrip(sam, reference, strategy, batch.images[:1], autocast)
    return {
        "n_asked": len(trainable),
        "n_received": len(receiving),
        "n_held": len(in_optimizer),
        "names_sha256": hashlib.sha256("\n".join(sorted(trainable)).encode()).hexdigest(),
        "batchnorm_frozen": 0
        if batchnorm == "trained"
        else sum(isinstance(module, _BatchNorm) for module in sam.modules()),
        **({} if batchnorm == "frozen" else {"batchnorm": batchnorm}),
        "roundtrip_max_abs_difference": difference,
        "ok": True,
    }


@contextmanager
def _left_unchanged(sam: Sam, trainable: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Restore trainable parameters, gradients, modes and random state at the end of the block."""
    modes = {module: module.training for module in sam.modules()}
    originals = {name: parameter.detach().cpu().clone() for name, parameter in trainable.items()}
    gradients = {parameter: parameter.grad for parameter in sam.parameters()}
    device = sam.pixel_mean.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, original in originals.items():
                    trainable[name].copy_(original)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
            sam.train()  # modules that cache what they derive from parameters drop it now
            for module, mode in modes.items():
                module.training = mode


def _receiving(
    sam: Sam, trainable: Mapping[str, nn.Parameter], batch: Batch, loss: Loss, autocast: Autocast, seed: int
) -> set[str]:
    """Names of the parameters that receive a gradient in at least one of several backward passes."""
    generator = torch.Generator().manual_seed(seed)
    receiving: set[str] = set()
    # A single pass is enough, but for an image without nuclei, or stochastic depth that leaves out a block.
    for index in range(max(PASSES, len(batch.images))):
        if len(receiving) == len(trainable):
            break
        with torch.no_grad():
            for parameter in trainable.values():
                noise = torch.randn(parameter.shape, generator=generator) * NOISE
                parameter.add_(noise.to(parameter))
        sam.zero_grad()
        start = index % len(batch.images)
        single = slice(start, start + 1)  # so that the audit needs no more memory than training
        with autocast():
            value = loss(batch.images[single], batch.targets[single])
        value.backward()
        receiving |= {name for name, p in sam.named_parameters() if p.grad is not None and bool(p.grad.any())}
    sam.zero_grad()
    return receiving


def _optimizer_content(sam: Sam, optimizer: torch.optim.Optimizer | None) -> tuple[set[str], list[str]]:
    """Names of the model's parameters in the optimiser, and descriptions of other tensors in it."""
    names = {id(parameter): name for name, parameter in sam.named_parameters()}
    groups = [] if optimizer is None else optimizer.param_groups
    parameters: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
    own = {names[id(parameter)] for parameter in parameters if id(parameter) in names}
    return own, [f"a tensor of shape {tuple(p.shape)}" for p in parameters if id(p) not in names]


def _mismatches(
    sam: Sam, reference: Sam, receiving: set[str], in_optimizer: set[str], foreign: list[str]
) -> dict[str, Iterable[str]]:
    trainable, intended = set(_trainable(sam)), set(_trainable(reference))
    return {
        "requires a gradient but receives none": trainable - receiving,
        "receives a gradient but is not in the optimiser": receiving - in_optimizer,
        "is in the optimiser but requires no gradient": in_optimizer - trainable,
        "is in the optimiser but not part of the model": foreign,
        "is trained by the strategy but frozen here": intended - trainable,
        "is trained here but not by the strategy": trainable - intended,
        "was added by the strategy but is frozen": _added(sam) - trainable,
        "was added by the head but is frozen": (_of_branch(sam) if trainable else set()) - trainable,
        "is a BatchNorm in training mode": {
            name for name, module in sam.named_modules() if isinstance(module, _BatchNorm) and module.training
        },
    }


def _of_branch(sam: Sam) -> set[str]:
    """Names of the parameters of the decoder's high-resolution branch."""
    own = set() if sam.branch is None else {id(parameter) for parameter in sam.branch.parameters()}
    return {name for name, parameter in sam.named_parameters() if id(parameter) in own}


def _added(sam: Sam) -> set[str]:
    """Names of the parameters of LoRA and adapters."""
    lora = {name for name, _ in sam.named_parameters() if ".lora_" in name}
    bottlenecks = (name for name, module in sam.named_modules() if isinstance(module, Bottleneck))
    return lora | {f"{name}.{p}" for name in bottlenecks for p, _ in sam.get_submodule(name).named_parameters()}


def _roundtrip(sam: Sam, reference: Sam, strategy: str, images: Tensor, autocast: Autocast) -> float:
    """Return the largest difference of the logits after saving the trained part and loading it into `reference`."""
    with TemporaryDirectory(prefix="audit-") as folder:
        try:
            trained.save(sam, strategy, folder)
            trained.load(reference, folder)
        except WeightsError as error:
            raise AuditError(f"the trained part can't be saved and loaded again: {error}") from error
    saved, loaded = sam.state_dict(), reference.state_dict()
    differing = {name for name in saved.keys() | loaded.keys() if not _equal(saved.get(name), loaded.get(name))}
    _raise({"differs after saving and loading": differing})
    with torch.no_grad(), autocast():
        before = sam(images)[0]
        after = reference.eval()(images)[0]
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


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
