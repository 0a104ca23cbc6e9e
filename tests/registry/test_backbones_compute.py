"""Backbones: image sizes, decoding with prompts, positions, numerics and refused inputs."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from registry import backbones
from registry.errors import UnknownNameError
from registry.sam import Sam

LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")


@pytest.fixture(scope="module")
def nano() -> Sam:
    torch.manual_seed(0)
    return backbones.build("sam_nano", image_size=128)


@pytest.fixture(scope="module")
def embeddings(nano: Sam) -> Tensor:
    with torch.no_grad():
        return nano.encode(torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("name", "size"),
    [("sam_nano", 64), ("sam_nano", 512), ("mobile_sam", 256), ("mobile_sam", 512), ("efficient_sam_ti", 256)],
)
def test_shapes_follow_the_image_size(name: str, size: int) -> None:
    sam = backbones.build(name, image_size=size)
    with torch.no_grad():
        embeddings = sam.encode(torch.rand(1, 3, size, size))
        logits, iou = sam.decode(embeddings)
    assert embeddings.shape == (1, 256, size // 16, size // 16)
    assert logits.shape == (1, 4, size // 4, size // 4)
    assert iou.shape == (1, 4)
    assert embeddings.isfinite().all() and logits.isfinite().all()


@pytest.mark.parametrize("name", ["sam_nano", "efficient_sam_ti"])
def test_a_row_of_a_batch_is_decoded_as_a_single_row(name: str) -> None:
    torch.manual_seed(0)
    sam = backbones.build(name, image_size=64)
    points, labels = torch.rand(3, 2, 2) * 64, torch.tensor([[1, 0], [1, 1], [1, -1]])
    boxes = torch.tensor([[4.0, 8, 40, 50]]).expand(3, -1)
    with torch.no_grad():
        embeddings = sam.encode(torch.rand(3, 3, 64, 64))
        together = sam.decode(embeddings)
        matched = sam.decode(embeddings, points, labels, boxes)
        shared = sam.decode(embeddings[:1], points, labels, boxes)
        for i in range(3):
            row = slice(i, i + 1)
            prompt = (points[row], labels[row], boxes[row])
            for result, alone in (
                (together, sam.decode(embeddings[row])),
                (matched, sam.decode(embeddings[row], *prompt)),
                (shared, sam.decode(embeddings[:1], *prompt)),
            ):
                torch.testing.assert_close(result[0][row], alone[0], rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(result[1][row], alone[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(matched[0][1], shared[0][1], atol=1e-3)


def test_decoding_a_shared_embedding_equals_segment_anything(nano: Sam, embeddings: Tensor) -> None:
    points, labels = torch.rand(5, 1, 2) * 128, torch.ones(5, 1, dtype=torch.int64)
    with torch.no_grad():
        logits, iou = nano.decode(embeddings[:1], points, labels)
        sparse, dense = nano.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        expected, expected_iou = nano.mask_decoder.predict_masks(
            embeddings[:1], nano.prompt_encoder.get_dense_pe(), sparse, dense
        )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(iou, expected_iou, rtol=1e-4, atol=1e-5)


def test_relative_attention_equals_segment_anything_on_resized_positions() -> None:
    from registry.modules.sam_vit import RelativeAttention

    torch.manual_seed(0)
    vendor = Attention(64, num_heads=2, use_rel_pos=True, input_size=(16, 16))
    nn.init.normal_(vendor.rel_pos_h)
    nn.init.normal_(vendor.rel_pos_w)
    ours = RelativeAttention(vendor)
    for side in (16, 9):
        tokens = torch.randn(2, side, side, 64)
        torch.testing.assert_close(ours(tokens), vendor(tokens), rtol=1e-4, atol=1e-5)


def test_absolute_positions_are_resized_bicubically_without_antialiasing() -> None:
    from registry.modules.sam_vit import resize_grid

    grid = torch.randn(1, 64, 64, 3)
    small = resize_grid(grid, 16, 16)
    assert small.shape == (1, 16, 16, 3)
    # Halfway between cells, Keys' kernel (a = -0.75) weighs the two on each side by -0.09375 and 0.59375.
    weights = torch.tensor([-0.09375, 0.59375, 0.59375, -0.09375])
    patch = grid[0, 4 * 5 : 4 * 5 + 4, 4 * 7 : 4 * 7 + 4]
    torch.testing.assert_close(small[0, 5, 7], torch.einsum("i,j,ijc->c", weights, weights, patch))
    assert resize_grid(grid, 64, 64) is grid


def test_changed_attention_biases_of_tiny_vit_take_effect() -> None:
    sam = backbones.build("mobile_sam", image_size=64)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = sam.encode(images)
        for key, parameter in sam.named_parameters():
            if key.endswith("attention_biases"):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        after = sam.encode(images)
    assert (before - after).norm() / before.norm() > 1e-3


@pytest.mark.parametrize("name", LIGHT)
def test_bfloat16_autocast_differs_by_less_than_5_percent(name: str) -> None:
    torch.manual_seed(0)
    sam = backbones.build(name, image_size=64)
    images, point = torch.rand(1, 3, 64, 64), torch.tensor([[[45.0, 15.0]]])
    with torch.no_grad():
        exact, _ = sam.decode(sam.encode(images), point, torch.ones(1, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough, _ = sam.decode(sam.encode(images), point, torch.ones(1, 1))
    assert ((rough.float() - exact).norm() / exact.norm()).item() < 0.05


def test_channels_last_images_give_the_same_embeddings(nano: Sam, embeddings: Tensor) -> None:
    images = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        result = nano.encode(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, embeddings, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0, -64, 100, 1000])
def test_a_size_that_is_no_multiple_of_64_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size {size} is not a positive multiple of 64; try "):
        backbones.build("sam_nano", image_size=size)


def test_an_unknown_name_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'mobilesam'\. Did you mean 'mobile_sam'\?"):
        backbones.build("mobilesam")


def test_images_of_another_shape_are_refused(nano: Sam) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 3, 64, 64\); sam_nano at image_size 128 takes \(b, 3, 128"):
        nano.encode(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"torch.uint8; allowed is floating point in \[0, 1\]. Divide 8-bit"):
        nano.encode(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))


def test_prompts_that_do_not_fit_are_refused(nano: Sam, embeddings: Tensor) -> None:
    points, labels, boxes = torch.zeros(2, 1, 2), torch.ones(2, 1), torch.zeros(2, 4)
    cases = [
        ((embeddings[:, :, :4],), r"\(3, 256, 4, 8\); sam_nano at image_size 128 takes \(b, 256, 8, 8\)"),
        ((embeddings, points), "points and labels go together"),
        ((embeddings, None, labels), "points and labels go together"),
        ((embeddings, points, labels[0]), r"points have the shape \(2, 1, 2\) and labels \(1,\)"),
        ((embeddings, None, None, torch.zeros(4)), r"boxes have the shape \(4,\); allowed is \(n, 4\)"),
        ((embeddings, points[:1], labels[:1], boxes), r"as many rows; they have \[1, 2\]"),
        ((embeddings, points, labels), "2 rows of prompts do not fit 3 embeddings"),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            nano.decode(*given)


def test_efficient_sam_refuses_more_than_six_points() -> None:
    sam = backbones.build("efficient_sam_ti", image_size=64)
    embeddings = torch.zeros(1, 256, 4, 4)
    sam.decode(embeddings, torch.zeros(1, 4, 2), torch.ones(1, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"7 points were given \(a box counts as two\).* up to 6"):
        sam.decode(embeddings, torch.zeros(1, 5, 2), torch.ones(1, 5), torch.zeros(1, 4))


@pytest.mark.parametrize("name", ["mobile_sam", "lite_medsam"])
def test_random_weights_do_not_depend_on_the_kernel_of_the_attention(name: str) -> None:
    states = []
    for backends in ([SDPBackend.MATH], [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        torch.manual_seed(0)
        with sdpa_kernel(backends):
            states.append(backbones.build(name, image_size=64).state_dict())
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
