"""Building, counting and describing a model, and the trainability audit with faults planted in it."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import AuditError
from bench.training import audit as audit_module
from bench.training import model
from registry import strategies, trained
from registry.errors import StrategyError

TRAINING = ("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full")
LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")
TOKENS = (1, 2, 3)


class Case:
    """One model on its way into training, as a run puts it together."""

    def __init__(self, backbone: str, strategy: str, tokens: tuple[int, ...] = TOKENS, size: int = 64) -> None:
        self.backbone, self.strategy, self.tokens, self.size = backbone, strategy, tokens, size
        self.sam = self.fresh()
        model.set_training_mode(self.sam)
        asking = [parameter for parameter in self.sam.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(asking, lr=1e-3) if asking else None
        generator = torch.Generator().manual_seed(5)
        self.batch = SimpleNamespace(
            images=torch.rand(2, 3, size, size, generator=generator),
            targets=torch.rand(2, len(tokens), size // 2, size // 2, generator=generator).round(),
        )

    def fresh(self) -> Any:
        return model.prepare(
            backbone=self.backbone,
            strategy=self.strategy,
            options={},
            image_size=self.size,
            checkpoint=None,
            tokens=self.tokens,
            seed=3,
        )

    def logits(self, images: Tensor) -> Tensor:
        return self.sam.decode(self.sam.encode(images))[0][:, list(self.tokens)]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(F.interpolate(logits, targets.shape[-2:]), targets)

    def audit(self, **changes: Any) -> dict[str, Any]:
        given = {
            "batch": self.batch,
            "logits": self.logits,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "fresh": self.fresh,
            "strategy": self.strategy,
        }
        return model.audit(self.sam, **(given | changes))


# --- building, counting, describing -------------------------------------------------------------------------


def test_prepare_is_seeded_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    one, two = Case("sam_nano", "lora_qv").fresh(), Case("sam_nano", "lora_qv").fresh()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    other = model.prepare(
        backbone="sam_nano",
        strategy="lora_qv",
        options={"rank": 2},
        image_size=64,
        checkpoint=None,
        tokens=(0,),
        seed=4,
    )
    weight = "image_encoder.patch_embed.proj.weight"
    assert not torch.equal(other.get_parameter(weight), one.get_parameter(weight))
    mark = strategies.applied(other)
    assert mark is not None
    assert (mark.options, mark.tokens, mark.added) == ({"rank": 2}, (0,), 4_096)
    assert not other.training


def test_training_mode_leaves_batch_norm_in_eval() -> None:
    sam = Case("mobile_sam", "full").sam
    assert sam.training
    norms = [module for module in sam.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)
    assert all(module.training for module in sam.modules() if isinstance(module, nn.LayerNorm))


def test_counts_add_up() -> None:
    counts = model.count_parameters(Case("sam_nano", "lora_qv").sam)
    assert counts == {
        "parameters_total": 5_619_632 + 8_192,
        "parameters_encoder": 1_555_072 + 8_192,
        "parameters_prompt_encoder": 6_220,
        "parameters_decoder": 4_058_340,
        "parameters_added": 8_192,
        "parameters_trainable": 8_192 + 3_785_920 + 256,
        "parameters_trainable_encoder": 8_192,
        "parameters_trainable_prompt_encoder": 256,
        "parameters_trainable_decoder": 3_785_920,
    }


def test_counts_of_a_model_without_a_strategy() -> None:
    from registry import backbones

    counts = model.count_parameters(backbones.build("sam_nano", 64))
    assert counts["parameters_total"] == 5_619_632
    assert counts["parameters_added"] == 0


def test_describe_merges_blocks_that_are_alike() -> None:
    root = model.describe(Case("sam_nano", "lora_qv").sam)
    assert (root.name, root.parameters, root.trained) == ("sam", 5_627_824, 3_794_368)
    assert [child.name for child in root.children] == ["image_encoder", "prompt_encoder", "mask_decoder"]
    assert sum(child.parameters for child in root.children) == root.parameters
    encoder = root.children[0]
    assert [(n.name, n.kind, n.count) for n in encoder.children[:1]] == [("pos_embed", "Parameter", 1)]
    (blocks,) = (child for child in encoder.children if child.name == "blocks")
    # Windows and the whole grid have tables of relative positions of their own sizes.
    assert [(n.name, n.count, n.trained) for n in blocks.children] == [("0–2", 3, 2_048), ("3", 1, 2_048)]
    assert sum(n.count * n.parameters for n in blocks.children) == blocks.parameters


def test_describe_goes_as_deep_as_asked() -> None:
    sam = Case("sam_nano", "lora_qv").sam
    assert model.describe(sam, depth=0).children == ()
    node = model.describe(sam, depth=6)
    for name in ("image_encoder", "blocks", "0–2", "attn", "qkv", "q"):
        (node,) = (child for child in node.children if child.name == name)
    assert (node.kind, node.trained) == ("LoRA Linear", 1_024)


# --- the audit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", TRAINING)
@pytest.mark.parametrize("backbone", LIGHT)
def test_every_strategy_passes(backbone: str, strategy: str) -> None:
    case = Case(backbone, strategy)
    names = sorted(name for name, p in case.sam.named_parameters() if p.requires_grad)
    result = case.audit()
    assert result["n_asked"] == result["n_received"] == result["n_held"] == len(names)
    assert result["names_sha256"] == hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert result["roundtrip_max_abs_difference"] == 0.0
    assert (result["batchnorm_frozen"] > 0) == (backbone == "mobile_sam")
    assert result["ok"] is True
    json.dumps(result)


@pytest.mark.parametrize("backbone", LIGHT)
def test_zero_shot_passes_without_an_optimiser(backbone: str) -> None:
    result = Case(backbone, "zero_shot").audit()
    assert (result["n_asked"], result["n_received"], result["n_held"]) == (0, 0, 0)


@pytest.mark.parametrize("backbone", LIGHT)
def test_the_audit_passes_in_bfloat16_as_on_a_gpu(backbone: str) -> None:
    told = Case(backbone, "lora_all_linear").audit(autocast=partial(torch.autocast, "cpu", torch.bfloat16))
    assert told["ok"] and told["roundtrip_max_abs_difference"] == 0.0


@pytest.mark.parametrize("tokens", [(0,), (3, 1)])
def test_other_tokens_pass(tokens: tuple[int, ...]) -> None:
    assert Case("sam_nano", "decoder_only", tokens).audit()["ok"]


def test_another_image_size_passes() -> None:
    assert Case("sam_nano", "full", size=128).audit()["ok"]


def test_the_audit_leaves_no_trace() -> None:
    case = Case("mobile_sam", "full")
    case.loss(case.logits(case.batch.images), case.batch.targets).backward()
    state = {name: tensor.clone() for name, tensor in case.sam.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in case.sam.named_parameters() if p.grad is not None}
    modes = [module.training for module in case.sam.modules()]
    with torch.no_grad():
        before = case.logits(case.batch.images)
    random = torch.get_rng_state()
    case.audit()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, state[name]) for name, tensor in case.sam.state_dict().items())
    after = {name: p.grad for name, p in case.sam.named_parameters() if p.grad is not None}
    assert after.keys() == gradients.keys()
    assert all(torch.equal(gradient, gradients[name]) for name, gradient in after.items())
    assert [module.training for module in case.sam.modules()] == modes
    with torch.no_grad():
        assert torch.equal(case.logits(case.batch.images), before)


def test_a_failed_audit_leaves_no_trace_either() -> None:
    case = Case("sam_nano", "lora_qv")
    state = {name: tensor.clone() for name, tensor in case.sam.state_dict().items()}
    with pytest.raises(AuditError):
        case.audit(optimizer=torch.optim.SGD(list(case.sam.parameters())[:1]))
    assert all(torch.equal(tensor, state[name]) for name, tensor in case.sam.state_dict().items())
    assert case.sam.training
    assert all(parameter.grad is None for parameter in case.sam.parameters())


# --- planted faults -----------------------------------------------------------------------------------------

LORA_B = "image_encoder.blocks.1.attn.qkv.v.lora_B.default.weight"
IOU = "mask_decoder.iou_prediction_head.layers.0.bias"


def test_a_lora_that_was_frozen_after_the_optimiser_was_made() -> None:
    case = Case("sam_nano", "lora_qv")
    case.sam.get_parameter(LORA_B).requires_grad_(False)
    with pytest.raises(AuditError) as raised:
        case.audit()
    text = str(raised.value)
    assert f"is held by the optimiser but doesn't ask for a gradient: {LORA_B};" in text
    assert f"is trained by the strategy but frozen here: {LORA_B};" in text
    assert f"was added by the strategy but is frozen: {LORA_B}." in text


@pytest.mark.parametrize(
    ("strategy", "name"), [("lora_qv", LORA_B), ("adapter", "image_encoder.blocks.0.mlp.adapter.down.weight")]
)
def test_a_strategy_that_forgets_to_train_what_it_adds(strategy: str, name: str) -> None:
    """The optimiser agrees, and so does a fresh model: only that the parameter was added tells."""

    class Forgetful(Case):
        def fresh(self) -> Any:
            sam = super().fresh()
            sam.get_parameter(name).requires_grad_(False)
            return sam

    with pytest.raises(AuditError) as raised:
        Forgetful("sam_nano", strategy).audit()
    assert str(raised.value).endswith(f"was added by the strategy but is frozen: {name}.")


def test_a_parameter_that_asks_but_can_receive_nothing() -> None:
    case = Case("sam_nano", "decoder_only")
    for sam in (case.sam, fresh := case.fresh()):
        sam.get_parameter(IOU).requires_grad_(True)
    case.optimizer = torch.optim.AdamW([p for p in case.sam.parameters() if p.requires_grad])
    with pytest.raises(AuditError) as raised:
        case.audit(fresh=lambda: fresh)
    assert str(raised.value) == f"the trainability audit failed. asks for a gradient but receives nothing: {IOU}."


def test_a_gradient_of_zeros_counts_as_none() -> None:
    """Unread hypernetworks are part of the graph: they receive zeros, not None."""
    case = Case("sam_nano", "decoder_only")
    case.tokens, case.batch.targets = (1, 2), case.batch.targets[:, :2]
    with pytest.raises(AuditError) as raised:
        case.audit(fresh=Case("sam_nano", "decoder_only").fresh)
    text = str(raised.value)
    assert "asks for a gradient but receives nothing: mask_decoder.output_hypernetworks_mlps.3.layers.0.bias, " in text
    assert "output_hypernetworks_mlps.2" not in text


def test_an_optimiser_that_lacks_a_parameter() -> None:
    case = Case("sam_nano", "adapter")
    named = [(name, p) for name, p in case.sam.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([p for name, p in named if name != "mask_decoder.iou_token.weight"])
    with pytest.raises(AuditError, match=r"is not held by the optimiser: mask_decoder.iou_token.weight\.$"):
        case.audit(optimizer=optimizer)


def test_an_optimiser_that_holds_something_else() -> None:
    case = Case("sam_nano", "decoder_only")
    assert case.optimizer is not None
    case.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, 3))]})
    with pytest.raises(AuditError, match=r"but not part of the model: a tensor of shape \(2, 3\)\.$"):
        case.audit()


def test_batch_norm_left_in_training_mode() -> None:
    case = Case("mobile_sam", "decoder_only")
    (name, *_) = (name for name, module in case.sam.named_modules() if isinstance(module, nn.BatchNorm2d))
    case.sam.get_submodule(name).train()
    with pytest.raises(AuditError) as raised:
        case.audit()
    assert f"is a BatchNorm in training mode: {name}" in str(raised.value)


def test_a_save_that_drops_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mask_decoder.iou_token.weight"

    def drop(tensors: dict[str, Tensor], path: Any, metadata: Any, save: Any = trained.save_file) -> None:
        save({key: tensor for key, tensor in tensors.items() if key != name}, path, metadata)

    monkeypatch.setattr(trained, "save_file", drop)
    with pytest.raises(AuditError) as raised:
        Case("sam_nano", "lora_qv").audit()
    assert "the trained part can't be saved and loaded again" in str(raised.value)
    assert f"missing: {name}." in str(raised.value)


def test_a_save_and_a_load_that_drop_the_same_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mask_decoder.iou_token.weight"
    state = trained.other_state

    def without(sam: Any) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in state(sam).items() if key != name}

    monkeypatch.setattr(trained, "other_state", without)
    with pytest.raises(AuditError) as raised:
        Case("sam_nano", "decoder_only").audit()
    assert str(raised.value) == f"the trainability audit failed. differs after saving and loading: {name}."


def test_batch_norm_statistics_that_moved_are_named() -> None:
    case = Case("mobile_sam", "decoder_only")
    (name, module) = next((n, m) for n, m in case.sam.named_modules() if isinstance(m, nn.BatchNorm2d))
    assert module.running_mean is not None
    module.running_mean.add_(1)
    with pytest.raises(AuditError, match=rf"differs after saving and loading: {name}.running_mean\.$"):
        case.audit()


def test_a_difference_that_no_parameter_explains() -> None:
    case = Case("sam_nano", "decoder_only")
    case.sam.image_encoder.register_forward_hook(lambda module, inputs, output: output * 1.5)
    with pytest.raises(AuditError, match=r"logits differ by up to [\d.e-]+ though all parameters agree"):
        case.audit()


def test_long_lists_of_offenders_are_cut() -> None:
    case = Case("sam_nano", "full")
    with pytest.raises(AuditError, match=r"and 134 more\.$"):
        case.audit(optimizer=None)
    assert audit_module.NAMES_SHOWN == 40


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(StrategyError, match=r"Did you mean 'rank'"):
        model.prepare(
            backbone="sam_nano",
            strategy="lora_qv",
            options={"ranks": 4},
            image_size=64,
            checkpoint=None,
            tokens=TOKENS,
            seed=0,
        )
