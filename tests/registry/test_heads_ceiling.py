"""Upper bound of each head's scores: ground truth, degraded like a model's output, passed through `instances`.

The ceilings were measured on 107 tiles of the same source. The default head is tested on all images
beside this checkout, the others on some of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch.nn import functional as F

from bench.metrics import score
from registry import heads
from registry.modules.mask_candidates import collect

DATA = Path(__file__).parents[2].parent / "shared" / "data"
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def label_maps():
    files = sorted(DATA.glob("dsb-he*/*/label masks modify/*.tif"))
    if not files:
        pytest.skip("the real label maps (../shared/data/dsb-he) are not beside this checkout")
    return [tifffile.imread(file).astype(np.int32) for file in files]


@pytest.fixture(scope="module")
def every_fourth(label_maps):
    return label_maps[::4]


def pooled_logits(maps: np.ndarray, stride: int) -> torch.Tensor:
    """Logits (1, c, h/stride, w/stride) of probability maps."""
    return torch.logit(F.avg_pool2d(torch.from_numpy(maps)[None], stride), eps=1e-4)


def upsampled(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0].numpy()


def means(label_maps, predict) -> tuple[float, float, float]:
    """Mean AJI, mean PQ, and the ratio of predicted to true nuclei."""
    rows = [score(true, predict(true), aji_plus=False) for true in label_maps]
    aji, pq, n_pred, n_true = (np.mean([row[key] for row in rows]) for key in ("aji", "pq", "n_pred", "n_true"))
    return float(aji), float(pq), float(n_pred / n_true)


@pytest.mark.parametrize(
    ("name", "stride", "aji", "pq"),
    [
        ("distance", 1, 0.990, 0.981),
        ("distance", 2, 0.967, None),
        ("distance", 4, 0.910, None),
        ("distance", 8, 0.698, None),
        ("watershed", 1, 0.859, 0.905),
    ],
)
def test_scores_reach_the_upper_bound(label_maps, name, stride, aji, pq):
    head = heads.get(name)
    mean_aji, mean_pq, _ = means(
        label_maps if name == "distance" else label_maps[::4],
        lambda true: head.instances(upsampled(pooled_logits(head.targets(true), stride), true.shape)),
    )
    assert mean_aji >= aji - TOLERANCE
    assert pq is None or mean_pq >= pq - TOLERANCE


def test_noise_does_not_split_nuclei(every_fourth):
    head = heads.get("distance")
    generator = torch.Generator().manual_seed(0)

    def noisy(true):
        logits = pooled_logits(head.targets(true), 2)
        return head.instances(upsampled(logits + torch.randn(logits.shape, generator=generator), true.shape))

    aji, pq, nuclei = means(every_fourth, noisy)
    assert aji >= 0.94 and pq >= 0.93
    assert 0.95 <= nuclei <= 1.05


def test_noise_on_small_logits_does_not_split_nuclei(every_fourth):
    """Logits of a quarter of the size: probabilities between 0.09 and 0.91, as of a model in training."""
    head = heads.get("distance")
    generator = torch.Generator().manual_seed(0)

    def noisy(true):
        logits = pooled_logits(head.targets(true), 2) / 4
        noise = 0.7 * torch.randn(logits.shape, generator=generator)
        return head.instances(upsampled(logits + noise, true.shape))

    aji, _, nuclei = means(every_fourth, noisy)
    assert aji >= 0.88
    assert 0.9 <= nuclei <= 1.15


@pytest.mark.parametrize(("stride", "ceiling"), [(2, 0.967), (4, 0.910)])
def test_scores_of_everything_on_true_masks(every_fourth, stride, ceiling):
    """Each true nucleus is a candidate at the stride of SAM's logits, with a predicted IoU of 1."""
    head = heads.get("everything")

    def painted(true):
        height, width = true.shape

        def batches():
            for ids in torch.arange(1, true.max() + 1).split(32):
                masks = (torch.from_numpy(true)[None] == ids[:, None, None]).float()
                yield torch.logit(F.avg_pool2d(masks[:, None], stride)[:, 0], eps=1e-4), torch.ones(len(ids))

        candidates = collect(
            batches(),
            size=true.shape,
            grid=(height / stride, width / stride),
            offset=1.0,
            min_iou=0.5,
            min_stability=0.0,
            max_area=0.25,
            limit=1024,
        )
        return head.instances(candidates, stability=0.0, min_area=0.0)

    aji, _, _ = means(every_fourth[::4], painted)
    assert aji >= ceiling - TOLERANCE
