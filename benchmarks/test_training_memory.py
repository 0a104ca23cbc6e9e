"""Peak memory of a training step that keeps activations in the blocks of the encoder, or computes them again."""

from __future__ import annotations

import pytest
import ratios
from processes import measured

STEP = """
import torch
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from bench.training import fit, measure, model
from registry import block_forward, heads

backbone, strategy, size, form = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
head = heads.get("distance")
options = {"rank": 4} if strategy == "lora_qv" else {}
sam = model.prepare(backbone=backbone, strategy=strategy, options=options, image_size=size, checkpoint=None,
                    tokens=head.channels, seed=0)
model.set_training_mode(sam)
torch.manual_seed(0)
side = sam.card.target_side(size)
images, targets = torch.rand(1, 3, size, size), torch.rand(1, len(head.channels), side, side)

def step():
    context = partial(block_forward.checkpointed, sam) if form == "checkpoint" else nullcontext
    with context():
        loss = fit.training_loss(sam, head, images, targets)[0]
    loss.backward()
    return float(loss)

def resident(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) / 1024

before = resident("VmRSS")
measure.reset_peak(torch.device("cpu"))
laps["loss"] = lap("step", step)
laps["activations_mb"] = resident("VmHWM") - before
"""


@pytest.mark.parametrize(
    ("backbone", "strategy", "size", "target"),
    [("sam_vit_b", "lora_qv", 512, 2.5), ("mobile_sam", "lora_qv", 512, None)],
)
def test_peak_memory_of_a_step(backbone, strategy, size, target):
    full, less = (measured(STEP, backbone, strategy, size, form) for form in ("full", "checkpoint"))
    assert full["loss"] == less["loss"]
    ratios.report(
        f"Memory of a step: {backbone} {strategy}, checkpointed",
        full["activations_mb"] / less["activations_mb"],
        target,
        detail=f"{full['activations_mb']:,.0f} MB / {less['activations_mb']:,.0f} MB beyond the model, {size} px, "
        f"batch 1, float32; time {less['step'] / full['step']:.2f} ×",
    )
