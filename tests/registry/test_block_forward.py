"""Other forms of the forward pass of an encoder's blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from registry import backbones, block_forward, blocks, prepared
from registry.sam import Sam


def prepare(backbone: str, strategy: str, image_size: int, **options: Any) -> Sam:
    sam = prepared.prepare(
        backbone=backbone,
        strategy=strategy,
        options=options,
        image_size=image_size,
        checkpoint=None,
        tokens=(0,),
        seed=0,
    )
    with torch.no_grad():  # so that the parameters that start at zero have an effect
        for parameter in sam.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    return sam


def gradients(sam: Sam, context: Callable[[], AbstractContextManager[None]]) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(1)
    images = torch.rand(1, 3, sam.image_size, sam.image_size)
    with context():
        loss = sam.decode(sam.encode(images))[0].square().mean()
    trained = [p for p in sam.parameters() if p.requires_grad]
    return loss, list(torch.autograd.grad(loss, trained, allow_unused=True))


def assert_bit_equal(sam: Sam) -> None:
    loss, plain = gradients(sam, nullcontext)
    again, recomputed = gradients(sam, partial(block_forward.checkpointed, sam))
    assert torch.equal(loss, again)
    assert sum(g is not None for g in plain) > 10
    for a, b in zip(plain, recomputed, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("strategy", ["full", "lora_all_linear", "adapter"])
def test_activations_computed_again_give_the_same_loss_and_gradients_bit_for_bit(strategy):
    assert_bit_equal(prepare("sam_nano", strategy, 64))


@pytest.mark.release
@pytest.mark.parametrize("strategy", ["full", "lora_qv", "lora_all_linear", "adapter"])
@pytest.mark.parametrize("backbone", backbones.names())
def test_activations_computed_again_give_the_same_gradients_in_every_backbone(backbone, strategy):
    assert_bit_equal(prepare(backbone, strategy, backbones.card(backbone).size_multiple))


def test_random_numbers_in_a_block_are_drawn_again_alike():
    sam = prepare("sam_nano", "full", 64)
    for name in blocks.names(sam):
        sam.get_submodule(name).mlp.act = torch.nn.Dropout(0.5)
    assert_bit_equal(sam.train())


def test_memory_kept_for_the_backward_pass_is_smaller():
    sam = prepare("sam_nano", "full", 64)

    def kept(context: Callable[[], AbstractContextManager[None]]) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), context():
            tokens = sam.encode(torch.rand(1, 3, 64, 64))
        weights = {p.untyped_storage().data_ptr() for p in sam.parameters()}
        assert tokens.requires_grad
        return sum(size for pointer, size in storages.items() if pointer not in weights)

    assert kept(partial(block_forward.checkpointed, sam)) < 0.5 * kept(nullcontext)


def test_model_is_as_before_once_the_context_ends():
    sam = prepare("sam_nano", "full", 64)
    names = list(sam.state_dict())
    with pytest.raises(ZeroDivisionError), block_forward.checkpointed(sam):
        assert list(sam.state_dict()) == names
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in sam.modules())
    copy.deepcopy(sam)


def test_other_forward_passes_stand_in_for_those_of_blocks_and_are_computed_again_as_well():
    sam = prepare("sam_nano", "full", 64)
    calls: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def forward(*args: Any) -> Any:
            calls.append(name)
            return function(*args)

        return forward

    other = {name: counted(name, function) for name, function in block_forward.forwards(sam).items()}
    with block_forward.replaced(sam, other):
        sam.encode(torch.rand(1, 3, 64, 64))
    assert calls == list(blocks.names(sam))
    calls.clear()
    gradients(sam, partial(block_forward.checkpointed, sam, other))
    assert calls == [*blocks.names(sam), *reversed(blocks.names(sam))]
