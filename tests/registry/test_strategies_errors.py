"""Strategies refuse impossible options, and cards that don't fit the model."""

from __future__ import annotations

import pytest
from strategy_models import ADDING, build, with_targets

from registry import strategies
from registry.errors import StrategyError


@pytest.mark.parametrize("strategy", ["lora_qv", "lora_all_linear"])
@pytest.mark.parametrize("rank", [0, -1, 129])
def test_an_impossible_rank_is_refused(strategy: str, rank: int) -> None:
    sam = build("sam_nano")
    names = set(sam.state_dict())
    with pytest.raises(StrategyError, match=rf"rank {rank} is not possible: .* has width 128; choose 1 to 128"):
        strategies.apply(strategy, sam, rank=rank)
    assert set(sam.state_dict()) == names
    strategies.apply(strategy, sam, rank=1)  # the model is as fresh as before


@pytest.mark.parametrize("reduction", [0, -4, 129])
def test_an_impossible_reduction_is_refused(reduction: int) -> None:
    with pytest.raises(StrategyError, match=rf"reduction {reduction} is not possible: .*'sam_nano' has width 128"):
        strategies.apply("adapter", build("sam_nano"), reduction=reduction)


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(StrategyError, match=r"choose a finite number other than 0"):
        strategies.apply("adapter", build("sam_nano"), scale=scale)


@pytest.mark.parametrize("strategy", ADDING)
def test_a_blocks_pattern_without_match_is_refused(strategy: str) -> None:
    sam = with_targets(build("sam_nano"), blocks=r"encoder\.layers\.\d+")
    with pytest.raises(StrategyError, match=r"'encoder\\\\.layers.*' on the card of 'sam_nano' matches no module"):
        strategies.apply(strategy, sam)


def test_a_target_that_is_not_linear_is_refused() -> None:
    sam = with_targets(build("sam_nano"), qkv="attn")
    with pytest.raises(StrategyError, match=r"'image_encoder.blocks.0.attn' of 'sam_nano' is a \w+; .* nn.Linear only"):
        strategies.apply("lora_qv", sam)


def test_a_target_that_does_not_exist_is_refused() -> None:
    sam = with_targets(build("sam_nano"), proj="attn.out")
    with pytest.raises(StrategyError, match=r"'image_encoder.blocks.0.attn.out', .*below the block are: .*attn.proj"):
        strategies.apply("lora_all_linear", sam)


def test_a_default_prompt_that_does_not_exist_is_refused() -> None:
    sam = with_targets(build("sam_nano"), default_prompt=("prompt_encoder.nothing",))
    with pytest.raises(StrategyError, match=r"default prompt 'prompt_encoder.nothing' on the card of 'sam_nano'"):
        strategies.apply("decoder_only", sam)


@pytest.mark.parametrize("tokens", [(), (4,), (-1, 1)])
def test_unknown_tokens_are_refused(tokens: tuple[int, ...]) -> None:
    with pytest.raises(StrategyError, match=r"are not mask tokens; give at least one of 0 to 3"):
        strategies.apply("decoder_only", build("sam_nano"), tokens=tokens)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(StrategyError, match=r"unknown option of strategy 'lora_qv' 'rnak'. Did you mean 'rank'"):
        strategies.apply("lora_qv", build("sam_nano"), rnak=4)


@pytest.mark.parametrize("second", ["zero_shot", "lora_qv", "adapter"])
def test_a_second_strategy_on_one_model_is_refused(second: str) -> None:
    sam = build("sam_nano")
    strategies.apply("lora_qv", sam)
    with pytest.raises(StrategyError, match=rf"'{second}' can't be applied: the model carries 'lora_qv' already"):
        strategies.apply(second, sam)
