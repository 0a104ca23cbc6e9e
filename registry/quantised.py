"""Frozen weights of an image encoder in 8 or 4 bits, under adapters that are trained in full precision (QLoRA).

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023 (arXiv 2305.14314). The library
bitsandbytes quantises; it is optional: ``pip install nuclei-bench[quantised]``.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from registry.errors import StrategyError

if TYPE_CHECKING:
    from torch import nn

    from registry.sam import Sam

FULL = "full"
KINDS = (FULL, "int8", "nf4")


def problem(kind: str) -> str:
    """Return why weights can't be kept in this kind on this machine, in a sentence; empty if they can."""
    if kind not in KINDS:
        return f"base weights {kind!r} are unknown; allowed are {', '.join(KINDS)}."
    if kind == FULL or find_spec("bitsandbytes"):
        return ""
    return (
        f"base weights {kind!r} need the library bitsandbytes, which is not installed: "
        "`pip install nuclei-bench[quantised]`, or choose full."
    )


def quantise(sam: Sam, kind: str) -> int:
    """Keep the weights of every frozen linear layer of the encoder in 8 or 4 bits, in place.

    Layers that a strategy trains stay as they are, and so do convolutions, norms and the decoder. Layers below an
    adapter of PEFT are quantised; the adapter stays in full precision.

    Args:
        sam: a model on the CPU, with a strategy.
        kind: of `KINDS`; ``full`` changes nothing.

    Returns:
        The number of layers that were quantised.

    Raises:
        StrategyError: bitsandbytes is not installed or does not work here, or the strategy leaves no layer frozen.
    """
    if reason := problem(kind):
        raise StrategyError(reason)
    if kind == FULL:
        return 0
    layers = _frozen(sam)
    if not layers:
        raise StrategyError(
            f"base weights {kind!r} are for frozen layers, and this strategy trains every linear layer of the image "
            "encoder; choose train.base_weights=full, or a strategy with adapters."
        )
    from registry.modules.quantised_linear import QuantisedLinear

    try:
        for name, layer in layers.items():
            sam.set_submodule(f"image_encoder.{name}", QuantisedLinear(layer, kind).train(layer.training))
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise StrategyError(
            f"bitsandbytes can't quantise to {kind!r} here ({error}); it needs version 0.46 or later with kernels for "
            "this processor. Update it, or choose train.base_weights=full."
        ) from error
    return len(layers)


def hidden_parameters(module: nn.Module) -> int:
    """Return the number of weights and biases that quantised layers hold in place of parameters."""
    from registry.modules.quantised_linear import QuantisedLinear

    layers = (layer for layer in module.modules() if isinstance(layer, QuantisedLinear))
    return sum(
        layer.in_features * layer.out_features + (0 if layer.bias is None else layer.out_features) for layer in layers
    )


def _frozen(sam: Sam) -> dict[str, nn.Linear]:
    """Return the linear layers of the encoder without a trained parameter, but for the inert ones, by name."""
    from torch import nn

    inert = tuple(name.removeprefix("image_encoder.") for name in sam.card.targets.inert)
    return {
        name: layer
        for name, layer in sam.image_encoder.named_modules()
        if type(layer) is nn.Linear
        and not f"{name}.".startswith(inert or ("\0",))
        and not any(p.requires_grad for p in layer.parameters())
    }
