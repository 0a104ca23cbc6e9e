"""Inference form of a model: a copy that computes the same faster, for models that are not trained further.

Adapters are merged into their layers, BatchNorm is folded into the convolution before it, weights of convolutions are
laid out channels last, and modules compute in pieces that fit the processor's cache (see `registry.modules.pieces`).
Results differ from the plain form by rounding only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from registry.modules.pieces import is_changed
from registry.modules.split_qkv import SplitQkv

if TYPE_CHECKING:
    from registry.sam import Sam

Forms = Mapping[type[nn.Module], Callable[[Any], Callable[..., Tensor] | None]]
"""By the exact class of a module: a function that gets the module of the copy, may change it, and returns the forward
function to use in place of its own, with the module as first argument; None keeps its own."""

M = TypeVar("M", bound=nn.Module)


def optimise(sam: Sam, *, merge: bool = True) -> Sam:
    """Return the inference form of a model, in eval mode, on its device; the model itself is left as it is.

    Tensors that do not change are shared with the model. So the form is made again after the model's weights changed;
    it is not for training, saving or exporting.

    Args:
        sam: a model of any family, with or without a strategy. Encoders without a method ``inference_forms`` (those of
            third parties, say) keep their forward functions; their adapters and BatchNorms in `nn.Sequential` are
            merged and folded all the same.
        merge: merge adapters into their layers. Those on layers that are not plain `nn.Linear` (quantised ones, say)
            are never merged, because the merged weights would be rounded.
    """
    if getattr(sam, "is_inference_form", False):
        return sam
    optimised = duplicate(sam).eval()
    convert(optimised, merge=merge)
    optimised.is_inference_form = True
    return optimised


def duplicate(module: M) -> M:
    """Return a copy of a module and of all those in it, whose parameters share their memory and require no gradient."""
    return _duplicate(module, {})


def _duplicate(module: M, copies: dict[int, nn.Module]) -> M:
    # Not copy.deepcopy, which would double the memory of the weights, nor copy.copy, which shares the dictionaries.
    if id(module) in copies:
        return copies[id(module)]  # type: ignore[return-value]  # of the same class
    new = module.__class__.__new__(module.__class__)
    copies[id(module)] = new
    containers = (dict, list, set)
    new.__dict__ = {k: copy.copy(v) if isinstance(v, containers) else v for k, v in module.__dict__.items()}
    # A forward function that a plug-in has set would go on computing with the module, in its mode.
    own = {k: v for k, v in module.__dict__.items() if isinstance(v, MethodType) and v.__self__ is module}
    new.__dict__.update({k: MethodType(v.__func__, new) for k, v in own.items()})
    # Other classes are quantised weights, which hold more than their values; nothing here changes them.
    new._parameters = {
        name: nn.Parameter(p.detach(), requires_grad=False) if type(p) is nn.Parameter else p
        for name, p in module._parameters.items()
    }
    new._modules = {
        name: None if child is None else _duplicate(child, copies) for name, child in module._modules.items()
    }
    return new


@torch.no_grad()
def convert(copied: nn.Module, *, below: Iterable[str] | None = None, merge: bool = True) -> None:
    """Give the modules of a copy their inference form, in place.

    Args:
        copied: what `duplicate` returned, of a `Sam` or of an image encoder; its modules are in eval mode.
        below: names of the modules to convert, with all modules in them; None converts all.
        merge: see `optimise`.
    """
    encoder: Any = getattr(copied, "image_encoder", copied)
    own = getattr(encoder, "inference_forms", None)
    forms = _FORMS if own is None else {**_FORMS, **own()}
    roots = [""] if below is None else list(below)
    for root in roots:
        if merge:
            _merge(copied, root)
        for module in copied.get_submodule(root).modules():
            if type(module).forward is nn.Sequential.forward:
                _fold(module)
        for module in copied.get_submodule(root).modules():
            _lay_out(module)
            make = forms.get(type(module))
            forward = make(module) if make and "forward" not in vars(module) else None
            if forward is not None:
                module.forward = MethodType(forward, module)


def _merge(copied: nn.Module, root: str) -> None:
    """Replace layers with a merged adapter by plain ones, and split layers whose parts are plain by the fused one."""
    inside = [name for name, _ in copied.named_modules() if not root or f"{name}.".startswith(f"{root}.")]
    adapted = [(name, copied.get_submodule(name)) for name in inside]
    for name, layer in reversed(adapted):  # an adapter on an adapter's layer comes first
        if not hasattr(layer, "get_base_layer"):
            continue
        with suppress(NotImplementedError, RuntimeError, ValueError):  # PEFT's refusals: the layer stays as it is
            copied.set_submodule(name, _merged(layer))
    for name, split in [*copied.named_modules()]:
        if name in inside and isinstance(split, SplitQkv) and split.is_plain and not is_changed(split):
            copied.set_submodule(name, split.fused())


def _merged(layer: Any) -> nn.Module:
    """Return the layer below an adapter with the adapter merged, or the layer as it is where merging would round."""
    base: nn.Module = layer.base_layer
    if type(base) is not nn.Linear or layer.disable_adapters or is_changed(layer) or is_changed(base):
        return layer
    if not layer.merged:
        layer.merge(safe_merge=True)  # it gives the copy's layer new weights, and leaves the shared ones alone
    return base


def _fold(chain: nn.Module) -> None:
    """Fold each BatchNorm of an `nn.Sequential` into the convolution right before it."""
    names = list(chain._modules)
    for first, second in pairwise(names):
        conv, norm = chain._modules[first], chain._modules[second]
        if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or is_changed(conv) or is_changed(norm):
            continue
        if norm.running_mean is None or conv.training or norm.training:
            continue
        chain._modules[first] = fuse_conv_bn_eval(conv, norm).requires_grad_(False)
        chain._modules[second] = nn.Identity()


def _lay_out(module: nn.Module) -> None:
    """Lay the weights of a convolution out channels last."""
    own = type(module._parameters.get("weight")) is nn.Parameter  # a weight norm computes it from others
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and own:
        weight = module.weight.detach().contiguous(memory_format=torch.channels_last)
        module.weight = nn.Parameter(weight, requires_grad=False)


def _pointwise(conv: nn.Conv2d) -> Callable[..., Tensor] | None:
    """Return a 1 × 1 convolution as a linear layer over the channels of each cell, for maps in channels-last layout."""
    if (*conv.kernel_size, *conv.stride, conv.groups) != (1, 1, 1, 1, 1) or conv.padding not in ((0, 0), 0, "valid"):
        return None

    def forward(self: Any, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return self._conv_forward(x, self.weight, self.bias)
        # PyTorch would compute a convolution of one image on one thread in the other layout, after two conversions.
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)

    return forward


def _layer_norm_2d(norm: LayerNorm2d) -> Callable[..., Tensor]:
    def forward(self: Any, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        # One pass over memory in place of seven.
        normalised = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return normalised.permute(0, 3, 1, 2)

    return forward


def _decoder_attention(attention: Attention) -> Callable[..., Tensor]:
    def forward(
        self: Any, q: Float[Tensor, "b n c"], k: Float[Tensor, "b m c"], v: Float[Tensor, "b m c"]
    ) -> Float[Tensor, "b n c"]:
        heads = [
            self._separate_heads(layer(x), self.num_heads)
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        ]
        out: Tensor = self.out_proj(self._recombine_heads(F.scaled_dot_product_attention(*heads)))
        return out

    return forward


_FORMS: dict[type[nn.Module], Callable[[Any], Callable[..., Tensor] | None]] = {
    nn.Conv2d: _pointwise,
    LayerNorm2d: _layer_norm_2d,
    Attention: _decoder_attention,
}
