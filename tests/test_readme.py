"""Examples of README, CONTRIBUTING, slurm/README and docs work: complete files, a grid, a figure, commands, links."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, CLUSTERS, WORKERS, SPEED = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "slurm/README.md", "docs/workers.md", "docs/speed.md")
)
FILES = dict(re.findall(r"```python\n# (registry/\S+\.py)\n(.*?)```", README + CONTRIBUTING, re.DOTALL))

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
def test_the_complete_files_work(tmp_path, name):
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
    commands = set(re.findall(r"^\s*(?:\$ )?bench (\w+)", README + SPEED, re.MULTILINE))
    shown = {"run", "plan", "status", "logs", "cancel", "retry", "table", "plot", "list", "show", "data", "weights"}
    assert shown | {"compare", "report", "verify", "predict", "export", "measure", "perf", "cache"} <= commands
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
        "perf",
        "cache clear",
        "table",
        "plot",
        "ablation",
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
    for option in set(re.findall(r"^\s+bench .*", README + CLUSTERS + WORKERS + SPEED, re.MULTILINE)):
        for flag in re.findall(r"(--[a-z-]+)", option):
            assert flag in help_text, option


def anchors(text: str) -> set[str]:
    """The names under which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_files_of_other_schedulers_start_the_same_worker():
    job, task = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", WORKERS, re.DOTALL))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (rule,) = re.findall(r"    shell:\n(.*?)```", WORKERS, re.DOTALL)
    commands = [
        " ".join(container["command"]).replace("=", " "),
        " ".join(task["run"].replace("\\\n", " ").split()),
        "".join(ast.literal_eval(line.strip()) for line in rule.splitlines()),
    ]
    places = "--data /shared/nuinsseg --weights /shared/weights --results /shared/results"
    only = "--only backbone={wildcards.backbone} --only fold={wildcards.fold} "
    assert commands == [f"bench run --grid default {part}--cluster inline {places}" for part in ("", "", only)]
    assert commands[0] in README


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "slurm/README.md", "docs/workers.md", "docs/speed.md"]
)
def test_every_local_link_resolves(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(((?!http)[^)#]+)(?:#([^)]+))?\)", (ROOT / page).read_text(encoding="utf-8"))
    if page == "README.md":
        assert ("docs/quick.png", "") in links
        assert ("slurm/README.md", "try-it-on-a-slurm-of-your-own") in links
    assert [link for link, _ in links if not (folder / link).exists()] == []
    targets = [(link, anchor) for link, anchor in links if anchor]
    assert [(link, a) for link, a in targets if a not in anchors((folder / link).read_text(encoding="utf-8"))] == []


def test_uses_come_before_extension_and_the_readme_stays_short():
    headings = re.findall(r"^### \d\. (.*)$", README, re.MULTILINE)
    assert [heading.split()[0] for heading in headings] == ["Run", "Regenerate", "Compare", "Plot", "Use", "Look"]
    assert len(README.splitlines()) < 340


def test_the_figure_of_the_readme_is_drawn_from_results_of_two_protocols(tmp_path, monkeypatch):
    import fabricated

    from bench.results import record

    for n_splits in (2, 5):
        for fold in range(1, n_splits + 1):
            values = fabricated.record(fabricated.run(fold=fold, n_splits=n_splits), pq=0.5 + fold / 100)
            record.write(tmp_path / "results", values)
    (code,) = re.findall(r"In a notebook:\n\n```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace("plot.draw(", "figure = plot.draw("), names)
    assert len(names["parts"]) == 2
    assert names["figure"].axes[0].get_xlabel() == "latency, ms"


def test_the_grid_of_contributing_is_a_grid(tmp_path):
    from bench.planning import plan

    (block,) = re.findall(r"```python\n(from bench\.grid .*?)```", CONTRIBUTING, re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    assert plan.load_grid(str(tmp_path / "mine.py")).strategies == ("bitfit", "lora_qv")


def test_every_module_of_the_harness_is_in_the_tree_of_contributing():
    tree = CONTRIBUTING[CONTRIBUTING.index("## Where things are") : CONTRIBUTING.index("## Add a backbone")]
    words = set(re.findall(r"\w+", tree))
    paths = [path for path in (ROOT / "bench").rglob("*.py") if not path.stem.startswith("__")]
    assert sorted(str(path.relative_to(ROOT)) for path in paths if path.stem not in words | {"default", "quick"}) == []
    packages = {path.parent.name for path in paths} - {"bench"}
    assert packages <= words
