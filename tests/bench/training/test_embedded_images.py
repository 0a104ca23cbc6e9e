"""Cached embeddings for a head that reads the images too: batches hold both, and the losses are the computed ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from planned_run import RUN as PLANNED

from bench.grid import TrainSettings
from bench.training import data, embeddings, fit, predictions
from bench.training.context import RunContext
from bench.training.embedded_batches import embedded_batches
from registry import heads
from registry.features import EmbeddedImages
from registry.prepared import prepare

SIZE = 32
HEAD = heads.get("distance_hr")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, SIZE, 3)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, (40, SIZE)).astype(np.int32)
RUN = replace(
    PLANNED,
    backbone="lite_medsam",
    strategy="decoder_only",
    head=HEAD.name,
    image_size=SIZE,
    scale=1.0,
    embeddings="cached",
    options={},
    train=vars(TrainSettings(epochs=1)),
)


@pytest.fixture(scope="module")
def sam() -> Any:
    sam = prepare(
        backbone="lite_medsam",
        strategy="decoder_only",
        options={},
        image_size=SIZE,
        checkpoint=None,
        tokens=HEAD.channels,
        seed=0,
        head=HEAD.name,
    )
    torch.nn.init.normal_(sam.branch.fusion[-1].weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return sam


@pytest.fixture
def cached(sam, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return embeddings.of_run(RUN, sam, RunContext(None))  # type: ignore[arg-type]


def losses(sam: Any, given: Any, targets: torch.Tensor, paths: frozenset[str], **form: bool) -> list[torch.Tensor]:
    loss, _ = fit.loss_in_form(sam, HEAD, paths, **form)(given, targets)
    trained = [p for p in sam.parameters() if p.requires_grad]
    return [loss.detach(), *torch.autograd.grad(loss, trained)]


def test_batches_hold_tiles_beside_embeddings_whether_cached_or_not_and_train_as_the_images_do(sam, cached):
    def batches() -> list[Any]:
        images = [data.Image("a", "o", "a", PIXELS, LABELS)]
        return list(
            embedded_batches(
                images,
                HEAD.targets,
                cached,
                first_step=0,
                epochs=2,
                batch_size=2,
                target_side=SIZE,
                seed=0,
                augment=True,
                stain_variants=1,
            )
        )

    first, second = batches(), batches()
    assert cached.n_read and cached.n_computed
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images.images, other.images.images)
        assert torch.equal(one.images.embeddings, other.images.embeddings)
    given, targets = first[0].images, first[0].targets
    assert isinstance(given, EmbeddedImages) and given.images.shape[1:] == (3, SIZE, SIZE)
    exact = EmbeddedImages(given.images, sam.encode(given.images).detach())
    computed = losses(sam, given.images, targets, frozenset())
    for one, other in zip(computed, losses(sam, exact, targets, frozenset(), is_embedded=True), strict=True):
        assert torch.equal(one, other)
    # Embeddings are kept in float16, and the fast path computes early features in inference form.
    fast = losses(sam, given, targets, frozenset({"frozen_prefix"}), is_embedded=True)
    assert torch.allclose(fast[0], computed[0], rtol=1e-3)
    norm = [torch.cat([g.flatten() for g in gradients[1:]]) for gradients in (computed, fast)]
    assert (norm[0] - norm[1]).norm() < 0.02 * norm[0].norm()


def test_predictions_with_cached_embeddings_differ_by_rounding(sam, cached):
    def logits(**given: Any) -> torch.Tensor:
        with torch.inference_mode():
            return predictions.dense_logits(
                sam.eval(), PIXELS, channels=HEAD.channels, scale=1.0, device=torch.device("cpu"), **given
            )

    computed, read = logits(), logits(encode=cached.of_pixels(PIXELS))
    assert computed.shape == (3, 40, SIZE)
    assert (computed - read).abs().max() < 2e-3 * computed.abs().max()
