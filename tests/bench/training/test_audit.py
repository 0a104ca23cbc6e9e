"""Trainability audit of sound models, and of models with faults made on purpose."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import AuditError
from bench.training import audit as audit_module
from bench.training import model
from bench.training.audit import audit
from bench.training.data import Batch
from registry import trained

TRAINING = ("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full")
LIGHT = ("sam_nano", "mobile_sam", "efficient_sam_ti")
TOKENS = (1, 2, 3)


class Case:
    """A model with optimiser, loss and batch, as a run puts them together before training."""

    def __init__(self, backbone: str, strategy: str, tokens: tuple[int, ...] = TOKENS, size: int = 64) -> None:
        self.backbone, self.strategy, self.tokens, self.size = backbone, strategy, tokens, size
        self.sam = self.fresh()
        model.set_training_mode(self.sam)
        trainable = [parameter for parameter in self.sam.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-3) if trainable else None
        generator = torch.Generator().manual_seed(5)
        self.batch = Batch(
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

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        logits = F.interpolate(self.logits(images), targets.shape[-2:])
        return F.binary_cross_entropy_with_logits(logits, targets)

    def audit(self, **changes: Any) -> dict[str, Any]:
        arguments = {
            "batch": self.batch,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "fresh": self.fresh,
            "strategy": self.strategy,
        }
        return audit(self.sam, **(arguments | changes))


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
    result = Case(backbone, "lora_all_linear").audit(autocast=partial(torch.autocast, "cpu", torch.bfloat16))
    assert result["ok"] and result["roundtrip_max_abs_difference"] == 0.0


@pytest.mark.parametrize("tokens", [(0,), (3, 1)])
def test_other_tokens_pass(tokens: tuple[int, ...]) -> None:
    assert Case("sam_nano", "decoder_only", tokens).audit()["ok"]


def test_another_image_size_passes() -> None:
    assert Case("sam_nano", "full", size=128).audit()["ok"]


def test_the_audit_leaves_no_trace() -> None:
    case = Case("mobile_sam", "full")
    case.loss(case.batch.images, case.batch.targets).backward()
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


def test_failed_audit_leaves_no_trace_either() -> None:
    case = Case("sam_nano", "lora_qv")
    state = {name: tensor.clone() for name, tensor in case.sam.state_dict().items()}
    with pytest.raises(AuditError):
        case.audit(optimizer=torch.optim.SGD(list(case.sam.parameters())[:1]))
    assert all(torch.equal(tensor, state[name]) for name, tensor in case.sam.state_dict().items())
    assert case.sam.training
    assert all(parameter.grad is None for parameter in case.sam.parameters())


# --- models with faults -----------------------------------------------------------------------------------------

LORA_B = "image_encoder.blocks.1.attn.qkv.v.lora_B.default.weight"
IOU = "mask_decoder.iou_prediction_head.layers.0.bias"


def test_lora_frozen_after_the_optimiser_was_made_is_named() -> None:
    case = Case("sam_nano", "lora_qv")
    case.sam.get_parameter(LORA_B).requires_grad_(False)
    with pytest.raises(AuditError) as raised:
        case.audit()
    text = str(raised.value)
    assert f"is in the optimiser but requires no gradient: {LORA_B};" in text
    assert f"is trained by the strategy but frozen here: {LORA_B};" in text
    assert f"was added by the strategy but is frozen: {LORA_B}." in text


@pytest.mark.parametrize(
    ("strategy", "name"), [("lora_qv", LORA_B), ("adapter", "image_encoder.blocks.0.mlp.adapter.down.weight")]
)
def test_strategy_that_freezes_what_it_adds_is_refused(strategy: str, name: str) -> None:
    """Optimiser and fresh model agree with the strategy; the names of added parameters reveal it."""

    class Forgetful(Case):
        def fresh(self) -> Any:
            sam = super().fresh()
            sam.get_parameter(name).requires_grad_(False)
            return sam

    with pytest.raises(AuditError) as raised:
        Forgetful("sam_nano", strategy).audit()
    assert str(raised.value).endswith(f"was added by the strategy but is frozen: {name}.")


def test_parameter_that_requires_a_gradient_but_receives_none_is_named() -> None:
    case = Case("sam_nano", "decoder_only")
    for sam in (case.sam, fresh := case.fresh()):
        sam.get_parameter(IOU).requires_grad_(True)
    case.optimizer = torch.optim.AdamW([p for p in case.sam.parameters() if p.requires_grad])
    with pytest.raises(AuditError) as raised:
        case.audit(fresh=lambda: fresh)
    assert str(raised.value) == f"the trainability audit failed. requires a gradient but receives none: {IOU}."


def test_a_gradient_of_zeros_counts_as_none() -> None:
    """Hypernetworks whose output is not read are part of the graph: they receive zeros, not None."""
    case = Case("sam_nano", "decoder_only")
    case.tokens, case.batch = (1, 2), Batch(case.batch.images, case.batch.targets[:, :2])
    with pytest.raises(AuditError) as raised:
        case.audit(fresh=Case("sam_nano", "decoder_only").fresh)
    text = str(raised.value)
    assert "requires a gradient but receives none: mask_decoder.output_hypernetworks_mlps.3.layers.0.bias, " in text
    assert "output_hypernetworks_mlps.2" not in text


def test_parameter_that_the_optimiser_lacks_is_named() -> None:
    case = Case("sam_nano", "adapter")
    named = [(name, p) for name, p in case.sam.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([p for name, p in named if name != "mask_decoder.iou_token.weight"])
    with pytest.raises(AuditError, match=r"is not in the optimiser: mask_decoder.iou_token.weight\.$"):
        case.audit(optimizer=optimizer)


def test_tensor_in_the_optimiser_that_is_not_of_the_model_is_described() -> None:
    case = Case("sam_nano", "decoder_only")
    assert case.optimizer is not None
    case.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, 3))]})
    with pytest.raises(AuditError, match=r"but not part of the model: a tensor of shape \(2, 3\)\.$"):
        case.audit()


def test_batch_norm_in_training_mode_is_named() -> None:
    case = Case("mobile_sam", "decoder_only")
    (name, *_) = (name for name, module in case.sam.named_modules() if isinstance(module, nn.BatchNorm2d))
    case.sam.get_submodule(name).train()
    with pytest.raises(AuditError) as raised:
        case.audit()
    assert f"is a BatchNorm in training mode: {name}" in str(raised.value)


def test_tensor_that_is_not_saved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mask_decoder.iou_token.weight"

    def drop(tensors: dict[str, Tensor], path: Any, metadata: Any, save: Any = trained.save_file) -> None:
        save({key: tensor for key, tensor in tensors.items() if key != name}, path, metadata)

    monkeypatch.setattr(trained, "save_file", drop)
    with pytest.raises(AuditError) as raised:
        Case("sam_nano", "lora_qv").audit()
    assert "the trained part can't be saved and loaded again" in str(raised.value)
    assert f"missing: {name}." in str(raised.value)


def test_tensor_that_is_neither_saved_nor_expected_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mask_decoder.iou_token.weight"
    state = trained.other_state

    def without(sam: Any) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in state(sam).items() if key != name}

    monkeypatch.setattr(trained, "other_state", without)
    with pytest.raises(AuditError) as raised:
        Case("sam_nano", "decoder_only").audit()
    assert str(raised.value) == f"the trainability audit failed. differs after saving and loading: {name}."


def test_batch_norm_statistics_that_changed_are_named() -> None:
    case = Case("mobile_sam", "decoder_only")
    (name, module) = next((n, m) for n, m in case.sam.named_modules() if isinstance(m, nn.BatchNorm2d))
    assert module.running_mean is not None
    module.running_mean.add_(1)
    with pytest.raises(AuditError, match=rf"differs after saving and loading: {name}.running_mean\.$"):
        case.audit()


def test_different_logits_of_equal_parameters_are_refused() -> None:
    case = Case("sam_nano", "decoder_only")
    case.sam.image_encoder.register_forward_hook(lambda module, inputs, output: output * 1.5)
    with pytest.raises(AuditError, match=r"logits differ by up to [\d.e-]+ though all parameters agree"):
        case.audit()


def test_long_lists_of_names_are_cut() -> None:
    case = Case("sam_nano", "full")
    with pytest.raises(AuditError, match=r"and 134 more\.$"):
        case.audit(optimizer=None)
    assert audit_module.NAMES_SHOWN == 40
