"""Embeddings of a frozen encoder: what they depend on, how they are used and checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planned_run import RUN as PLANNED

from bench.cache import entry
from bench.errors import AuditError
from bench.grid import TrainSettings
from bench.training import data, embeddings, predictions, variants
from bench.training.context import RunContext
from bench.training.embedded_batches import embedded_batches
from bench.training.embeddings import Embeddings
from bench.training.step import autocast
from bench.training.variants import Variant
from registry import backbones, heads, strategies
from registry.sam import Sam

RUN = replace(PLANNED, strategy="decoder_only", image_size=64, embeddings="cached", options={})
RUN = replace(RUN, train=vars(TrainSettings(epochs=1)))
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
WHOLE = Variant()
DIGEST = variants.pixels_digest(PIXELS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nuclei-bench" / "embeddings"


def model(seed: int = 0, image_size: int = 64) -> Sam:
    torch.manual_seed(seed)
    sam = backbones.build("sam_nano", image_size=image_size)
    strategies.apply("decoder_only", sam, tokens=(1, 2, 3))
    return sam


def opened(sam: Sam | None = None, **changes: object) -> Embeddings:
    result = embeddings.of_run(replace(RUN, **changes), sam or model(), RunContext(None))  # type: ignore[arg-type]
    assert result is not None
    return result


def path(of: Embeddings, variant: Variant = WHOLE) -> str:
    return of._path(DIGEST, variant).name


def test_run_that_computes_embeddings_has_no_cache():
    assert embeddings.of_run(replace(RUN, embeddings="computed"), model(), RunContext(None)) is None  # type: ignore[arg-type]


def test_entry_depends_on_the_encoder_the_input_and_the_variant_and_on_nothing_else():
    other_decoder = model()
    torch.nn.init.ones_(other_decoder.mask_decoder.iou_token.weight)
    same = [opened(), opened(other_decoder), opened(seed=5, fold=2, strategy="zero_shot", head="everything", train={})]
    assert len({path(one) for one in same}) == 1

    other_encoder = model()
    next(other_encoder.image_encoder.parameters()).data.flatten()[0] += 1e-3
    other_mean = model()
    other_mean.pixel_mean += 0.1
    plain = embeddings.of_run(RUN, model(), RunContext(None, fast_paths=frozenset()))  # type: ignore[arg-type]
    others = [opened(other_encoder), opened(other_mean), opened(model(image_size=128), image_size=128), plain]
    names = {path(one) for one in [opened(), opened(scale=1.0), *others]}
    names |= {path(opened(), variant) for variant in (Variant(turn=1), Variant(stain=1), Variant(tile=1))}
    names |= {path(opened(train={**RUN.train, "stain_jitter": 0.2}), Variant(stain=1))}
    names |= {path(opened(train={**RUN.train, "augmentation": "cellvit"}), Variant(stain=1))}
    assert len(names) == 11
    assert path(opened(train={**RUN.train, "stain_jitter": 0.2})) == path(opened())  # the unchanged colours


@pytest.mark.parametrize("scale", [None, 1.5])
def test_cached_predictions_differ_by_rounding_and_are_the_same_from_an_empty_and_a_full_cache(scale):
    sam, head = model().eval(), heads.get("distance")
    pixels = np.random.default_rng(1).integers(0, 256, (60, 70, 3)).astype(np.uint8)

    def predict(of: Embeddings | None) -> torch.Tensor:
        return predictions.raw_prediction(
            sam,
            head,
            pixels,
            scale=scale,
            autocast=lambda: autocast(torch.device("cpu")),
            embeddings=of.of_pixels if of else None,
        )

    first, second = opened(sam, scale=scale), opened(sam, scale=scale)
    computed, empty, full = predict(None), predict(first), predict(second)
    tiles = variants.tile_count(60, 70, image_size=64, scale=scale)
    assert (first.counts(), second.counts()) == (
        {"embeddings_read": 0, "embeddings_computed": tiles},
        {"embeddings_read": tiles, "embeddings_computed": 0},
    )
    assert torch.equal(empty, full)
    assert 0 < float((full - computed).abs().max()) < 5e-3 * float(computed.abs().max())


def test_orientations_are_predicted_from_cached_embeddings_of_the_turned_image():
    sam, head = model().eval(), heads.get("distance")

    def predict(of: Embeddings | None) -> torch.Tensor:
        options = {"scale": 1.0, "autocast": lambda: autocast(torch.device("cpu")), "tta": True}
        return predictions.raw_prediction(sam, head, PIXELS, embeddings=of.of_pixels if of else None, **options)

    tiles = variants.tile_count(*PIXELS.shape[:2], image_size=64, scale=1.0)
    first, second = opened(sam, scale=1.0), opened(sam, scale=1.0)
    turned = Variant(turn=5)
    drawn = first.compute(DIGEST, turned, first.tile(PIXELS, DIGEST, turned))  # as a training has drawn it
    computed, cached, again = predict(None), predict(first), predict(second)
    assert first.counts() == {"embeddings_read": 1, "embeddings_computed": 8 * tiles - 1}
    assert second.counts() == {"embeddings_read": 8 * tiles, "embeddings_computed": 0}
    assert torch.equal(cached, again) and torch.equal(drawn, second.read(DIGEST, turned))
    assert 0 < float((cached - computed).abs().max()) < 5e-3 * float(computed.abs().max())


def test_head_that_prompts_the_model_reads_cached_embeddings():
    sam, head = model().eval(), heads.get("everything")

    def predict(of: Embeddings | None) -> object:
        return predictions.raw_prediction(
            sam,
            head,
            PIXELS,
            scale=None,
            autocast=lambda: autocast(torch.device("cpu")),
            embeddings=of.of_pixels if of else None,
        )

    cached, computed = opened(sam), predict(None)
    candidates = predict(cached)
    assert cached.counts() == {"embeddings_read": 0, "embeddings_computed": 1}
    assert len(candidates.iou) == len(computed.iou)  # type: ignore[attr-defined]
    assert np.allclose(candidates.iou, computed.iou, rtol=1e-2, atol=1e-3)  # type: ignore[attr-defined]


def test_check_returns_the_difference_of_a_cached_embedding_and_refuses_another_one():
    sam = model()
    first, again = opened(sam).check(PIXELS, sam), opened(sam).check(PIXELS, sam)
    assert first == again  # computed, and read
    assert 0 < first < 1e-2

    wrong = opened(sam)
    kept = wrong.read(DIGEST, Variant())
    assert kept is not None
    entry.write(wrong._path(DIGEST, Variant()), (kept + 0.1).half())
    with pytest.raises(AuditError, match="`bench cache clear sam_nano` removes the entries"):
        opened(sam).check(PIXELS, sam)


def test_check_refuses_a_strategy_that_trains_the_encoder():
    sam = model()
    cached = opened(sam)
    sam.image_encoder.pos_embed.requires_grad_(True)
    with pytest.raises(AuditError, match=r"1 parameters of the encoder are trained, pos_embed among them"):
        cached.check(PIXELS, sam)


def test_embedding_that_is_not_finite_is_not_kept(cache):
    sam = model()
    next(sam.image_encoder.parameters()).data.fill_(float("nan"))
    cached = opened(sam)
    assert not bool(torch.isfinite(cached.compute(DIGEST, Variant(), torch.zeros(3, 64, 64))).all())
    assert not cache.exists()


def test_training_samples_are_those_of_their_position_however_far_the_cache_is_filled():
    label_map = np.zeros((64, 64), np.int32)
    label_map[5:20, 8:30] = 1
    images = [data.Image(str(n), "o", str(n), np.roll(PIXELS, n, axis=1), label_map) for n in range(3)]
    settings = {"epochs": 2, "batch_size": 2, "target_side": 32, "seed": 4, "augment": True, "stain_variants": 2}

    def batches(first_step: int, **changes: object) -> list:
        found = embedded_batches(
            images, heads.get("distance").targets, opened(), first_step=first_step, **{**settings, **changes}
        )
        return [(batch.images, batch.targets) for batch in found]

    empty = batches(0)
    full, rest, by_workers = batches(0), batches(3), batches(0, workers=1)
    assert [len(first) for first, _ in empty] == [2, 1, 2, 1]
    for expected, other in [*zip(empty, full, strict=True), *zip(empty, by_workers, strict=True)]:
        assert torch.equal(expected[0], other[0]) and torch.equal(expected[1], other[1])
    assert torch.equal(rest[0][0], empty[3][0])
    plain = batches(0, augment=False)
    straight = torch.from_numpy(heads.get("distance").targets(label_map[1::2, 1::2]))
    assert all(torch.equal(targets, straight) for _, batch in plain for targets in batch)
    assert not all(torch.equal(targets, straight) for _, batch in empty for targets in batch)
