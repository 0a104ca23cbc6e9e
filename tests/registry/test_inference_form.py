"""Inference form of models: equal to the plain form but for rounding, and the model itself is left as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from types import MethodType
from typing import Any

import pytest
import strategy_models as models
import torch
from torch import nn

from registry import backbones, frozen_prefix, strategies
from registry.modules import pieces

TOLERANCE = 2e-5
"""Largest difference of logits, relative to the largest logit, in float32."""
CASES = (
    ("sam_nano", 128, "zero_shot"),
    ("sam_nano", 128, "lora_qv"),
    ("sam_nano", 128, "adapter"),
    ("mobile_sam", 128, "lora_qv"),
    ("mobile_sam", 128, "adapter"),
)
TOKENS = (1, 2, 3)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that tiny images have several."""
    monkeypatch.setattr(pieces, "BYTES_PER_THREAD", 2**14)


@pytest.fixture(autouse=True)
def same_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def build(name: str, size: int, strategy: str, **options: Any) -> Any:
    """Build a model whose position tables and adapters do something."""
    torch.manual_seed(0)
    sam = backbones.build(name, size)
    strategies.apply(strategy, sam, tokens=TOKENS, **options)
    with torch.no_grad():
        for parameter_name, parameter in sam.named_parameters():
            if any(word in parameter_name for word in ("lora_", "adapter", "attention_biases", "rel_pos", "pos_embed")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return sam.eval()


def difference(expected: torch.Tensor, given: torch.Tensor) -> float:
    return float((expected - given).abs().max() / expected.abs().max())


def check_equal(name: str, size: int, strategy: str, batch: int = 1) -> None:
    sam = build(name, size, strategy)
    optimised = sam.optimise()
    images = torch.rand(batch, 3, size, size)
    expected = models.predict(sam, images)
    assert difference(expected, models.predict(optimised, images)) < TOLERANCE
    assert difference(expected, models.predict(sam.optimise(merge=False), images)) < TOLERANCE
    points, labels = torch.rand(3, 2, 2) * size, torch.tensor([[1, 0], [1, -1], [1, 1]])
    with torch.no_grad():
        embedding = sam.encode(images[:1])
        prompted = sam.decode(embedding, points, labels)
        assert difference(prompted[0], optimised.decode(embedding, points, labels)[0]) < TOLERANCE
        assert difference(prompted[1], optimised.decode(embedding, points, labels)[1]) < TOLERANCE


@pytest.mark.parametrize(("name", "size", "strategy"), CASES)
def test_inference_form_equals_the_plain_form(name: str, size: int, strategy: str) -> None:
    check_equal(name, size, strategy, batch=2 if strategy == "adapter" else 1)


@pytest.mark.release
@pytest.mark.parametrize("strategy", ["zero_shot", "decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"])
@pytest.mark.parametrize("name", backbones.names())
def test_inference_form_of_every_backbone_and_strategy_equals_the_plain_form(name: str, strategy: str) -> None:
    check_equal(name, 128, strategy, batch=2)


def test_nothing_of_an_adapter_and_no_batchnorm_is_left() -> None:
    sam = build("mobile_sam", 64, "lora_qv")
    optimised = sam.optimise()
    kinds = {type(module).__name__ for module in optimised.modules()}
    assert not kinds & {"BatchNorm2d", "SplitQkv"}
    assert not [name for name, _ in optimised.named_parameters() if "lora_" in name]
    assert "SplitQkv" in {type(module).__name__ for module in sam.optimise(merge=False).modules()}


def test_the_model_itself_is_unchanged_and_shares_what_is_not_converted() -> None:
    sam = build("mobile_sam", 64, "lora_qv")
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    trained, modes = models.trained(sam), [module.training for module in sam.train().modules()]
    optimised = sam.optimise()
    models.predict(optimised, torch.rand(1, 3, 64, 64))
    after = sam.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert models.trained(sam) == trained
    assert [module.training for module in sam.modules()] == modes
    mlp = "image_encoder.stages.1.blocks.0.mlp.fc1.weight"
    assert optimised.get_parameter(mlp).data_ptr() == sam.get_parameter(mlp).data_ptr()
    assert not any(parameter.requires_grad for parameter in optimised.parameters())
    assert optimised.optimise() is optimised


def test_adapter_on_a_layer_of_another_class_is_not_merged() -> None:
    class Quantised(nn.Linear):
        """Stands for a layer whose weights can't hold a merged adapter exactly."""

    sam = build("sam_nano", 64, "lora_all_linear")
    sam.image_encoder.blocks[0].mlp.lin1.base_layer.__class__ = Quantised
    optimised = sam.optimise()
    kept = {name.rpartition(".lora_")[0] for name, _ in optimised.named_parameters() if ".lora_" in name}
    assert kept == {"image_encoder.blocks.0.mlp.lin1"}
    images = torch.rand(1, 3, 64, 64)
    assert difference(models.predict(sam, images), models.predict(optimised, images)) < TOLERANCE


def test_layers_of_a_plugin_that_mix_tokens_are_computed_at_once() -> None:
    class MeanOfTokens(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(-2, keepdim=True)

    sam = build("mobile_sam", 128, "zero_shot")
    for stage in sam.image_encoder.stages[1:]:
        for block in stage.blocks:
            block.mlp.fc2 = nn.Sequential(block.mlp.fc2, MeanOfTokens())
    images = torch.rand(1, 3, 128, 128)
    assert difference(models.predict(sam, images), models.predict(sam.optimise(), images)) < TOLERANCE


def check_optimised_equals(sam: Any, *, size: int) -> Any:
    images = torch.rand(1, 3, size, size)
    optimised = sam.optimise()
    assert difference(models.predict(sam, images), models.predict(optimised, images)) < TOLERANCE
    return optimised


def test_parts_that_a_plugin_put_in_place_of_convolutions_are_computed_at_once() -> None:
    class Excitation(nn.Module):
        def __init__(self, conv: nn.Module) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.conv(x)
            return out * out.mean((2, 3), keepdim=True).sigmoid()

    def excite(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * (3 * output).mean((2, 3), keepdim=True).sigmoid()

    plain = build("mobile_sam", 64, "zero_shot")
    for change in range(5):
        sam = copy.deepcopy(plain)
        encoder = sam.image_encoder
        block = encoder.stages[1].blocks[0]
        if change == 0:
            block.local_conv = Excitation(block.local_conv)
        elif change == 1:
            block.local_conv.register_forward_hook(excite)
        elif change == 2:
            encoder.stages[0].blocks[0].conv2.append(nn.InstanceNorm2d(256))
        elif change == 3:
            conv = encoder.stages[0].blocks[0].conv2.conv
            conv.dilation, conv.padding = (2, 2), (2, 2)
        else:
            block.drop_path1 = nn.Softmax(dim=1)
        check_optimised_equals(sam, size=64)


def test_patch_embedding_without_strides_is_banded_only_where_bands_know_all_rows() -> None:
    sam = build("lite_medsam", 64, "zero_shot")
    for conv in (sam.image_encoder.patch_embed.conv1.conv, sam.image_encoder.patch_embed.conv2.conv):
        conv.kernel_size, conv.padding = (3, 3), (1, 1)
        conv.weight = nn.Parameter(torch.randn(*conv.weight.shape[:2], 3, 3) / 9)
    check_optimised_equals(sam, size=64)


def note_bytes(sizes: list[int], module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
    sizes.append(output.nbytes)


def test_maps_of_a_piece_are_as_small_as_they_are_meant_to_be() -> None:
    threads = torch.get_num_threads()
    for name, size, channels in (("lite_medsam", 64, 64), ("mobile_sam", 128, 32)):
        optimised = build(name, size, "zero_shot").optimise()
        embedding = optimised.image_encoder.patch_embed
        row = 4 * size * channels  # in MobileSAM of two rows of half the width
        sizes: list[int] = []
        hook = partial(note_bytes, sizes)
        for conv in (embedding.conv1, embedding.conv2):
            conv.register_forward_hook(hook)
        with torch.no_grad():
            optimised.encode(torch.rand(1, 3, size, size))
        assert max(sizes) <= max(3 * row, pieces.BYTES_PER_THREAD * threads + 2 * row)
        assert len(sizes) > 2


def test_layers_that_a_plugin_puts_in_place_of_one_of_an_mlp() -> None:
    for name, path, first in (("sam_nano", "blocks.0.mlp", "lin1"), ("mobile_sam", "stages.1.blocks.0.mlp", "fc1")):
        sam = build(name, 64, "zero_shot")
        mlp = sam.image_encoder.get_submodule(path)
        layer = getattr(mlp, first)
        setattr(mlp, first, nn.Sequential(layer, nn.Linear(layer.out_features, layer.out_features)))
        check_optimised_equals(sam, size=64)
        setattr(mlp, first, nn.Sequential(layer, nn.Softmax(dim=-2)))
        check_optimised_equals(sam, size=64)


def test_adapter_on_an_adapter_is_merged_too_and_a_disabled_one_is_not() -> None:
    from peft import IA3Config, LoraConfig, inject_adapter_in_model

    sam = build("sam_nano", 64, "lora_all_linear")
    wrapped = "image_encoder.blocks.0.mlp.lin1"
    inject_adapter_in_model(IA3Config(target_modules=[wrapped], feedforward_modules=[]), sam, adapter_name="second")
    outer: Any = sam.get_submodule(wrapped)
    assert hasattr(outer.base_layer, "base_layer")
    with torch.no_grad():
        outer.ia3_l["second"].add_(0.5)
    optimised = check_optimised_equals(sam.eval(), size=64)
    assert type(optimised.get_submodule(wrapped)) is nn.Linear

    sam = build("sam_nano", 64, "decoder_only")
    inject_adapter_in_model(LoraConfig(target_modules=[wrapped], init_lora_weights=False), sam)
    sam.get_submodule(wrapped).enable_adapters(False)
    check_optimised_equals(sam.eval(), size=64)


def test_convolutions_whose_weights_are_computed_keep_their_layout() -> None:
    sam = build("sam_nano", 64, "zero_shot")
    sam.image_encoder.neck[0] = torch.nn.utils.weight_norm(sam.image_encoder.neck[0])
    sam.image_encoder.neck[2] = torch.nn.utils.parametrizations.weight_norm(sam.image_encoder.neck[2])
    check_optimised_equals(sam, size=64)


def test_forward_function_that_a_plugin_has_set_computes_with_the_copy_in_eval_mode() -> None:
    sam = build("sam_nano", 64, "zero_shot")
    mlp = sam.image_encoder.blocks[0].mlp

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.lin2(torch.dropout(self.act(self.lin1(x)), 0.5, self.training))
        return out

    mlp.forward = MethodType(forward, mlp)
    images = torch.rand(1, 3, 64, 64)
    expected = models.predict(sam, images)
    optimised = sam.train().optimise()
    with torch.no_grad():
        assert difference(expected, optimised.decode(optimised.encode(images))[0]) < TOLERANCE


def gradients(sam: Any, encode: Any, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss and the gradients of a training step."""
    sam.zero_grad()
    loss = sam.decode(encode(images))[0][:, list(TOKENS)].sigmoid().square().mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in sam.named_parameters() if p.grad is not None}


def check_frozen_prefix(name: str, size: int, strategy: str, n_parts: int | None, **options: Any) -> None:
    sam = build(name, size, strategy, **options)
    sam.train()
    for module in sam.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    parts = frozen_prefix.frozen_parts(sam)
    assert len(parts) == n_parts or (n_parts is None and parts)
    images = torch.rand(2, 3, size, size)
    loss, expected = gradients(sam, sam.encode, images)
    given_loss, given = gradients(sam, frozen_prefix.encoder(sam), images)
    assert difference(loss, given_loss) < TOLERANCE
    assert given.keys() == expected.keys() == models.trained(sam)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert max(float((given[key] - expected[key]).abs().max()) for key in given) < 1e-4 * largest


@pytest.mark.parametrize(
    ("name", "strategy", "n_parts", "options"),
    [
        ("sam_nano", "lora_qv", 4, {"last_blocks": 2}),  # patches, positions, two blocks
        ("mobile_sam", "adapter", 14, {"last_blocks": 2}),  # embedding, 2 + 2 + 6 blocks, 3 downsamplings
        ("sam_nano", "decoder_only", 7, {}),  # all, with the neck
    ],
)
def test_frozen_prefix_gives_the_same_loss_and_gradients(
    name: str, strategy: str, n_parts: int, options: dict[str, int]
) -> None:
    check_frozen_prefix(name, 64, strategy, n_parts, **options)


@pytest.mark.release
@pytest.mark.parametrize("strategy", ["lora_qv", "lora_all_linear", "adapter", "decoder_only"])
@pytest.mark.parametrize("name", backbones.names())
def test_frozen_prefix_of_every_backbone_gives_the_same_loss_and_gradients(name: str, strategy: str) -> None:
    check_frozen_prefix(name, 64, strategy, None, **({} if strategy == "decoder_only" else {"last_blocks": 1}))


def test_nothing_is_frozen_where_all_is_trained_or_where_the_encoder_names_no_steps() -> None:
    sam = build("sam_nano", 64, "full")
    assert frozen_prefix.encoder(sam) == sam.decoder_input
    other = build("sam_nano", 64, "decoder_only")
    other.image_encoder = nn.Sequential(other.image_encoder)  # as a third party's encoder
    assert frozen_prefix.encoder(other) == other.decoder_input


def test_frozen_prefix_ends_before_dropout_and_before_hooks() -> None:
    sam = build("sam_nano", 64, "decoder_only")
    sam.image_encoder.blocks[1].mlp.act = nn.Sequential(nn.GELU(), nn.Dropout(0.1))
    assert frozen_prefix.frozen_parts(sam) == ("patch_embed", "pos_embed", "blocks.0")
    sam.image_encoder.blocks[0].register_forward_hook(lambda module, inputs, output: output)
    assert frozen_prefix.frozen_parts(sam) == ("patch_embed", "pos_embed")


def test_encoders_that_a_plugin_changed_outside_of_their_steps_are_run_as_a_whole() -> None:
    plain = build("mobile_sam", 64, "decoder_only")
    for change in range(4):
        sam = copy.deepcopy(plain)
        encoder = sam.image_encoder
        if change == 0:
            encoder.stages[1].register_forward_hook(lambda module, inputs, output: 2 * output)
        elif change == 1:
            encoder.stages[1] = nn.Sequential(encoder.stages[1])
        elif change == 2:
            encoder.stages[1].scale = nn.Parameter(torch.ones(1))
        else:
            encoder.stages[1].forward = lambda x: x
        assert frozen_prefix.frozen_parts(sam) == ()
        assert frozen_prefix.encoder(sam) == sam.decoder_input
    sam = build("sam_nano", 64, "decoder_only")
    sam.image_encoder.blocks[1].mlp.forward = lambda x: x
    assert frozen_prefix.frozen_parts(sam) == ("patch_embed", "pos_embed", "blocks.0")


def test_steps_compute_what_forward_does() -> None:
    for name, size in (("sam_nano", 64), ("mobile_sam", 64), ("efficient_sam_ti", 64)):
        encoder: Any = build(name, size, "zero_shot").image_encoder
        images = torch.rand(1, 3, size, size)
        with torch.no_grad():
            x = images
            for step in encoder.steps():
                x = step.run(x)
            assert torch.equal(x, encoder(images))
