"""Counts on fake tensors against the same step on real ones, and against sums done by hand."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.estimate.fake_step import run_fake_step
from bench.training import model
from registry import heads

TRAINED = ("decoder_only", "lora_qv", "full")


@cache
def counted(strategy: str, *, backbone: str = "sam_nano", image_size: int = 64, gpu: bool = True):
    trains = strategy != "zero_shot"
    return run_fake_step(
        backbone=backbone,
        strategy=strategy,
        options={},
        image_size=image_size,
        head="distance" if trains else "everything",
        trains=trains,
        gpu=gpu,
    )


def really(strategy: str, *, batch_size: int = 1, image_size: int = 64) -> tuple[int, int]:
    """FLOPs of a step on real tensors, and bytes that autograd keeps for it, parameters excluded."""
    head = heads.get("distance")
    sam = model.prepare(
        backbone="sam_nano",
        strategy=strategy,
        options={},
        image_size=image_size,
        checkpoint=None,
        tokens=head.channels,
        seed=0,
    )
    model.set_training_mode(sam)
    own = {p.untyped_storage().data_ptr() for p in [*sam.parameters(), *sam.buffers()]}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    half = image_size // 2
    images, targets = (torch.rand(batch_size, 3, image_size, image_size), torch.zeros(batch_size, 3, half, half))
    with FlopCounterMode(display=False) as flops, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        logits = sam.decode(sam.encode(images))[0][:, [1, 2, 3]]
        head.loss(F.interpolate(logits, (half, half), mode="bilinear", align_corners=False), targets).backward()
    return flops.get_total_flops(), sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize("strategy", TRAINED)
def test_fake_flops_are_the_real_ones(strategy):
    fake, (flops, _) = counted(strategy, gpu=False), really(strategy)
    assert fake.train_flops == flops


@pytest.mark.parametrize("strategy", ["lora_qv", "full"])
def test_memory_is_what_autograd_keeps_and_a_little_more(strategy):
    """Beside what is kept, a step holds what its operation at hand makes; and no share of the weights."""
    fake = counted(strategy, image_size=256, gpu=False)
    one, two = (really(strategy, batch_size=size, image_size=256)[1] for size in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.02)
    assert one <= fake.image_bytes <= 1.1 * one
    assert fake.fixed_bytes == 0  # float32: no copies of weights


def test_frozen_parts_have_no_backward_pass():
    decoder, lora, full = (counted(name) for name in TRAINED)
    assert 0 < decoder.trainable < lora.trainable < full.trainable
    assert decoder.train_flops < lora.train_flops < full.train_flops
    assert decoder.image_bytes < lora.image_bytes < full.image_bytes
    assert 2.9 < full.train_flops / full.infer_flops < 3.2  # a backward pass costs two forward passes


def test_a_depthwise_convolutions_gradient_costs_what_the_convolution_does():
    """PyTorch 2.15's own formula makes 5 of these 3, for it forgets groups."""
    full = counted("full", backbone="mobile_sam", image_size=256)
    assert 2.9 < full.train_flops / full.infer_flops < 3.2


def test_bfloat16_keeps_less_and_copies_the_weights():
    gpu, cpu = (counted("full", image_size=256, gpu=gpu) for gpu in (True, False))
    assert gpu.image_bytes < 0.75 * cpu.image_bytes
    assert 0 < gpu.fixed_bytes <= 2 * gpu.parameters
    assert gpu.parameters == cpu.parameters


def test_a_prompting_head_decodes_a_grid_of_points():
    one_forward = counted("decoder_only").infer_flops
    zero_shot = counted("zero_shot", image_size=256)  # 8 × 8 points
    assert zero_shot.train_flops == 0 == zero_shot.trainable
    assert zero_shot.infer_flops > 10 * one_forward


def test_published_flops_of_vit_h():
    """2.98 T multiply-adds for the encoder at 1024 px (Kirillov et al. 2023); a fake model takes no memory."""
    found = counted("decoder_only", backbone="sam_vit_h", image_size=1024)
    assert found.infer_flops == pytest.approx(2 * 2.98e12, rel=0.02)
    assert found.parameters == 641_090_608


def test_random_state_and_default_device_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    counted("lora_qv")
    assert torch.equal(torch.rand(3), expected)
    assert torch.empty(1).device.type == "cpu"
    assert type(torch.empty(1)) is torch.Tensor
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()


def test_importing_it_does_not_import_torch():
    check = "import sys, bench.estimate.fake_step, bench.estimate.estimator, bench.estimate.page, bench.estimate.packing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
