"""The README's examples work: its two complete files, and the commands it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (registry/\S+\.py)\n(.*?)```", README, re.DOTALL))

USE = """
import sys
sys.path.insert(0, {folder!r})
import torch
from registry import backbones, heads, strategies
import {module}
from bench.training import model
from bench.training.audit import audit
from bench.training.optimizer import make_optimizer

backbone = "sam_micro" if "sam_micro" in backbones.names() else "sam_nano"
named = ("bitfit",) if "bitfit" in strategies.names() else strategies.names()
head = heads.get("distance")
for strategy in named:
    def fresh():
        return model.prepare(backbone=backbone, strategy=strategy, options={{}}, image_size=64, checkpoint=None,
                             tokens=head.channels, seed=0)
    sam = fresh()
    if strategies.get(strategy).trains:
        model.set_training_mode(sam)
        class batch:
            images = torch.rand(1, 3, 64, 64)
            targets = torch.rand(1, 3, 16, 16)
        result = audit(
            sam,
            batch=batch,
            loss=lambda images, targets: head.loss(sam.decode(sam.encode(images))[0][:, list(head.channels)], targets),
            optimizer=make_optimizer(sam, lr=1e-3, weight_decay=0.1),
            fresh=fresh,
            strategy=strategy,
        )
        assert result["ok"]
    if strategy == "full":
        card = sam.card.parameters
        parts = (sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
        counted = [sum(p.numel() for p in part.parameters()) for part in parts]
        assert counted == [card.encoder, card.prompt_encoder, card.decoder], counted
    print(backbone, strategy, model.count_parameters(sam)["parameters_trainable"])
"""


@pytest.mark.parametrize("name", ["registry/backbones/sam_micro.py", "registry/strategies/bitfit.py"])
def test_the_complete_files_of_the_readme_work(tmp_path, name):
    module = Path(name).stem
    (tmp_path / f"{module}.py").write_text(FILES[name])
    script = USE.format(folder=str(tmp_path), module=module)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == (6 if module == "sam_micro" else 1)
    assert lines[-1] == "sam_micro zero_shot 0" if module == "sam_micro" else lines[-1].startswith("sam_nano bitfit ")


def help_of(command: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "bench.cli", *command.split(), "--help"]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)


def test_every_command_of_the_readme_exists():
    commands = set(re.findall(r"^\s*(?:\$ )?bench (\w+)", README, re.MULTILINE))
    shown = {"run", "plan", "status", "logs", "cancel", "retry", "table", "plot", "list", "show", "data", "weights"}
    assert shown <= commands
    for command in commands:
        assert help_of(command).returncode == 0, command


def test_every_option_of_the_readme_exists():
    help_text = ""
    for command in (
        "run",
        "plan",
        "status",
        "logs",
        "cancel",
        "retry",
        "table",
        "plot",
        "show",
        "predict",
        "export",
        "report",
        "verify",
        "data synth",
        "data check",
        "weights fetch",
        "weights check",
    ):
        done = help_of(command)
        assert done.returncode == 0, done.stderr
        help_text += done.stdout
    for option in set(re.findall(r"^\s+bench .*", README, re.MULTILINE)):
        for flag in re.findall(r"(--[a-z-]+)", option):
            assert flag in help_text, option


def test_every_local_link_of_the_readme_resolves():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert "docs/quick.png" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_grid_of_the_readme_is_a_grid(tmp_path):
    from bench.planning import plan

    (block,) = re.findall(r"```python\n(from bench\.grid .*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    assert plan.load_grid(str(tmp_path / "mine.py")).strategies == ("bitfit", "lora_qv")


def test_every_module_of_the_harness_is_in_the_tree_of_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text[text.index("## Where things are") : text.index("## Add a backbone")]
    words = set(re.findall(r"\w+", tree))
    paths = [path for path in (ROOT / "bench").rglob("*.py") if not path.stem.startswith("__")]
    assert sorted(str(path.relative_to(ROOT)) for path in paths if path.stem not in words | {"default", "quick"}) == []
    packages = {path.parent.name for path in paths} - {"bench"}
    assert packages <= words
