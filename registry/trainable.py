"""Parameters of a Sam that a strategy trains: those that the loss of a forward pass without prompts depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from registry.errors import StrategyError

if TYPE_CHECKING:
    from registry.sam import Sam


def freeze(sam: Sam) -> None:
    """Freeze every parameter."""
    sam.requires_grad_(False)


def train_decoder(sam: Sam, tokens: tuple[int, ...]) -> None:
    """Unfreeze the mask decoder and the default prompt, but for parameters that get no gradient.

    The loss does not depend on the IoU head, nor on the hypernetworks of mask tokens that no head reads. It depends on
    all tokens: they attend to one another in the decoder's transformer.

    Args:
        sam: a frozen model; changed in place.
        tokens: mask tokens the head reads, each 0 to 3.

    Raises:
        StrategyError: no token or an unknown one, or a default prompt that the model lacks.
    """
    n_tokens = len(sam.mask_decoder.output_hypernetworks_mlps)  # type: ignore[arg-type]
    if not tokens or any(token not in range(n_tokens) for token in tokens):
        raise StrategyError(f"tokens {tokens} are not mask tokens; give at least one of 0 to {n_tokens - 1}.")
    prompts = [_parameter(sam, name) for name in sam.card.targets.default_prompt]
    unread = tuple(f"output_hypernetworks_mlps.{token}." for token in range(n_tokens) if token not in tokens)
    for name, parameter in sam.mask_decoder.named_parameters():
        parameter.requires_grad_(not name.startswith(("iou_prediction_head.", *unread)))
    for prompt in prompts:
        prompt.requires_grad_(True)


def train_encoder(sam: Sam) -> None:
    """Unfreeze the image encoder, but for the parameters that the card calls inert."""
    inert = sam.card.targets.inert
    for name, parameter in sam.image_encoder.named_parameters(prefix="image_encoder"):
        parameter.requires_grad_(not name.startswith(inert))


def _parameter(sam: Sam, name: str) -> nn.Parameter:
    try:
        return sam.get_parameter(name)
    except AttributeError as error:
        raise StrategyError(
            f"the default prompt {name!r} on the card of {sam.card.name!r} is no parameter of the model; "
            "correct Targets.default_prompt (full names from the model's root, as in named_parameters())."
        ) from error
