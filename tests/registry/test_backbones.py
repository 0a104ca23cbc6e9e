"""Cards tell the truth, every size works, and decoding matches prompts with embeddings."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn

from registry import backbones
from registry.errors import UnknownNameError
from registry.sam import Sam

PUBLIC = ("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "tiny_sam", "efficient_sam_ti", "efficient_sam_s")
LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(name: str, image_size: int | None = None) -> Sam:
    with torch.device("meta"):
        return backbones.build(name, image_size)


@pytest.fixture(scope="module")
def nano() -> Sam:
    torch.manual_seed(0)
    return backbones.build("sam_nano", image_size=128)


@pytest.fixture(scope="module")
def embeddings(nano: Sam) -> Tensor:
    with torch.no_grad():
        return nano.encode(torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0)))


def test_all_are_registered() -> None:
    assert set(backbones.names()) == {*PUBLIC, "sam_nano"}


def test_cards_are_read_without_torch() -> None:
    code = "import sys; from registry import backbones; backbones.names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", [*PUBLIC, "sam_nano"])
def test_counts_equal_the_card_at_every_size(name: str) -> None:
    card = backbones.card(name)
    shapes = set()
    for size in (256, card.native_image_size):
        sam = on_meta(name, size)
        assert count(sam.image_encoder) == card.parameters.encoder
        assert count(sam.prompt_encoder) == card.parameters.prompt_encoder
        assert count(sam.mask_decoder) == card.parameters.decoder
        shapes.add(tuple((key, tuple(value.shape)) for key, value in sam.state_dict().items()))
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("sam_vit_b", 93_735_472),
        ("sam_vit_l", 312_342_832),
        ("sam_vit_h", 641_090_608),
        ("mobile_sam", 10_130_092),
        ("tiny_sam", 10_130_092),
        ("efficient_sam_ti", 10_223_204),
        ("efficient_sam_s", 26_413_028),
    ],
)
def test_totals_are_the_published_ones(name: str, total: int) -> None:
    assert backbones.card(name).parameters.total == total


def test_the_nano_model_is_small_and_says_what_it_is_for() -> None:
    card = backbones.card("sam_nano")
    assert card.parameters.encoder < 2_000_000
    assert card.checkpoint is None
    assert "tests and CPU demos" in card.note


@pytest.mark.parametrize("name", PUBLIC)
def test_public_cards_name_their_sources(name: str) -> None:
    card = backbones.card(name)
    assert card.licence == "Apache-2.0"
    assert card.native_image_size == 1024
    assert re.search(r"arXiv:\d{4}\.\d{5}", card.paper)
    assert card.checkpoint is not None
    assert card.checkpoint.url.startswith("https://")
    assert card.checkpoint.url.endswith("/" + card.checkpoint.filename)
    digests = (card.checkpoint.sha256, card.checkpoint.git_blob_sha1)
    assert any(digests) == (name != "tiny_sam")


@pytest.mark.parametrize("name", [*PUBLIC, "sam_nano"])
def test_targets_name_the_modules_that_adapters_need(name: str) -> None:
    sam, targets = on_meta(name), backbones.card(name).targets
    blocks = [m for full, m in sam.named_modules() if re.fullmatch(targets.blocks, full)]
    depth = {"sam_nano": 4, "sam_vit_l": 24, "sam_vit_h": 32, "mobile_sam": 10, "tiny_sam": 10}.get(name, 12)
    assert len(blocks) == depth
    for block in blocks:
        qkv, proj = block.get_submodule(targets.qkv), block.get_submodule(targets.proj)
        first, last = block.get_submodule(targets.mlp_in), block.get_submodule(targets.mlp_out)
        assert all(isinstance(layer, nn.Linear) for layer in (qkv, proj, first, last))
        assert qkv.out_features == 3 * qkv.in_features
        assert qkv.in_features % targets.head_dim == 0
        assert first.out_features == last.in_features
        if targets.mlp_norm:
            assert isinstance(block.get_submodule(targets.mlp_norm), nn.LayerNorm)
    parameters = dict(sam.named_parameters())
    assert all(default in parameters for default in targets.default_prompt)
    assert all(any(key.startswith(prefix) for key in parameters) for prefix in targets.inert)


@pytest.mark.parametrize("name", LIGHT)
def test_the_attention_and_mlp_return_tokens_and_call_qkv(name: str) -> None:
    sam, targets = backbones.build(name, image_size=64), backbones.card(name).targets
    block = next(m for full, m in sam.named_modules() if re.fullmatch(targets.blocks, full))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for part in (targets.attention, targets.qkv, targets.mlp):
        block.get_submodule(part).register_forward_hook(
            lambda _module, given, out, part=part: seen.__setitem__(part, (given[0], out))
        )
    with torch.no_grad():
        sam.encode(torch.rand(1, 3, 64, 64))
    width = block.get_submodule(targets.proj).out_features
    for part in (targets.attention, targets.mlp):
        given, out = seen[part]
        assert given.shape == out.shape
        assert out.shape[-1] == width
    assert seen[targets.qkv][1].shape[-1] == 3 * width


@pytest.mark.parametrize("name", LIGHT)
def test_inert_parameters_get_no_gradient_and_all_others_of_the_encoder_do(name: str) -> None:
    torch.manual_seed(0)
    sam, targets = backbones.build(name, image_size=64), backbones.card(name).targets
    logits, _ = sam.decode(sam.encode(torch.rand(1, 3, 64, 64)))
    logits.square().mean().backward()
    for key, parameter in sam.named_parameters():
        if key.startswith(targets.inert) and targets.inert:
            assert parameter.grad is None, key
        elif key.startswith("image_encoder.") or key in targets.default_prompt:
            assert parameter.grad is not None, key


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
def test_rows_of_a_batch_are_decoded_as_if_alone(name: str) -> None:
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
            for found, alone in (
                (together, sam.decode(embeddings[row])),
                (matched, sam.decode(embeddings[row], *prompt)),
                (shared, sam.decode(embeddings[:1], *prompt)),
            ):
                torch.testing.assert_close(found[0][row], alone[0], rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(found[1][row], alone[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(matched[0][1], shared[0][1], atol=1e-3)


def test_a_shared_embedding_gives_what_the_vendor_gives(nano: Sam, embeddings: Tensor) -> None:
    points, labels = torch.rand(5, 1, 2) * 128, torch.ones(5, 1, dtype=torch.int64)
    with torch.no_grad():
        logits, iou = nano.decode(embeddings[:1], points, labels)
        sparse, dense = nano.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        expected, expected_iou = nano.mask_decoder.predict_masks(
            embeddings[:1], nano.prompt_encoder.get_dense_pe(), sparse, dense
        )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(iou, expected_iou, rtol=1e-4, atol=1e-5)


def test_relative_attention_equals_the_vendors_on_resized_positions() -> None:
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


def test_tiny_vit_does_not_remember_old_biases() -> None:
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
def test_bfloat16_autocast_stays_close(name: str) -> None:
    torch.manual_seed(0)
    sam = backbones.build(name, image_size=64)
    images, point = torch.rand(1, 3, 64, 64), torch.tensor([[[45.0, 15.0]]])
    with torch.no_grad():
        exact, _ = sam.decode(sam.encode(images), point, torch.ones(1, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough, _ = sam.decode(sam.encode(images), point, torch.ones(1, 1))
    assert ((rough.float() - exact).norm() / exact.norm()).item() < 0.05


def test_channels_last_gives_the_same(nano: Sam, embeddings: Tensor) -> None:
    images = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = nano.encode(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, embeddings, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0, -64, 100, 1000])
def test_a_size_that_is_no_multiple_of_64_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size {size} is not a positive multiple of 64; try "):
        backbones.build("sam_nano", image_size=size)


def test_an_unknown_name_gets_the_nearest() -> None:
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


def test_efficient_sam_takes_six_points() -> None:
    sam = backbones.build("efficient_sam_ti", image_size=64)
    embeddings = torch.zeros(1, 256, 4, 4)
    sam.decode(embeddings, torch.zeros(1, 4, 2), torch.ones(1, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"7 points were given \(a box counts as two\).* up to 6"):
        sam.decode(embeddings, torch.zeros(1, 5, 2), torch.ones(1, 5), torch.zeros(1, 4))
