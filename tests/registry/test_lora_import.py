"""peft, which imports transformers, is imported where LoRA is applied and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_LORA = """
import sys, tempfile
from registry import backbones, strategies, trained

for strategy in ("zero_shot", "decoder_only", "adapter", "full"):
    sam = backbones.build("sam_nano", 64)
    strategies.apply(strategy, sam)
    with tempfile.TemporaryDirectory() as folder:
        trained.save(sam, strategy, folder)
        trained.load(sam, folder)
"""
SHOW = """
import sys
from bench.cli import app
app(["show", "mobile_sam", "decoder_only", "--depth", "1"], standalone_mode=False)
"""
LORA = """
import sys
from registry import backbones, strategies
strategies.apply("lora_qv", backbones.build("sam_nano", 64))
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [(WITHOUT_LORA, []), (SHOW, []), (LORA, ["peft", "transformers"])],
    ids=["four", "show", "lora"],
)
def test_peft_is_imported_for_lora_only(code: str, expected: list[str]) -> None:
    code += "print(sorted({'peft', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(expected)
