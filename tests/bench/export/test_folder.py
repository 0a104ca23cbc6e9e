"""`bench export`: a folder from which other programs load the run's model, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_run import Trained, outputs_of, provenance
from planned_run import CLASSICAL_RUN, RUN
from typer.testing import CliRunner

import registry
from bench.cli import app
from bench.errors import BenchError
from bench.export.folder import export
from bench.results import record
from registry import backbones, digests, strategies
from registry.card import Checkpoint
from registry.errors import DataError, StrategyError, WeightsError

ROOT = Path(__file__).parents[3]
MAKE = Callable[..., Trained]


@pytest.fixture(scope="module")
def exported(lora_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of lora_qv with a merged checkpoint."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(lora_run.run.id, folder, results=lora_run.results, merged=True)
    return folder


def code_of(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def execute(code: str, then: str, folder: Path) -> str:
    """Execute code as it stands, and lines after it, in a fresh process in a folder; returns what it prints."""
    script = f"exec(compile({code!r}, 'README.md', 'exec'))\n{then}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOW = """
import json, sys
images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    logits = {model}.decode({model}.encode(images))[0]
nuclei = {nuclei}
loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "bench")
print(json.dumps([logits.double().flatten().tolist(), nuclei, loaded]))
"""


def pixels() -> np.ndarray:
    """An image that is no square of the model's size."""
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def test_the_folder_holds_the_model_in_three_forms_its_settings_and_a_card(exported: Path, lora_run: Trained) -> None:
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "model.json",
        "sam_nano_merged.pth",
        "trained.safetensors",
    ]
    values = json.loads((exported / "model.json").read_text())
    names = ("backbone", "strategy", "options", "tokens", "image_size", "weights", "checkpoint_digest", "seed", "run")
    assert [values[name] for name in names] == [
        "sam_nano",
        "lora_qv",
        {"rank": 4},
        [1, 2, 3],
        64,
        "random",
        None,
        0,
        lora_run.run.id,
    ]


def test_registry_load_gives_the_model_of_the_run_bit_for_bit(exported: Path, lora_run: Trained) -> None:
    assert torch.equal(outputs_of(registry.load(exported)), lora_run.outputs)


def test_the_card_s_code_loads_the_model_with_registry_alone(exported: Path, lora_run: Trained) -> None:
    """The first block, executed as it stands: outputs, nuclei of an image, and no module of bench."""
    from bench.training import predictions
    from registry import heads

    image = pixels()
    nuclei = f"segment(np.array({image.tolist()}, dtype=np.uint8)).tolist()"
    logits, found, loaded = json.loads(execute(code_of(exported)[0], SHOW.format(model="sam", nuclei=nuclei), exported))
    assert torch.equal(torch.tensor(logits).float(), lora_run.outputs.flatten())
    assert loaded == []
    head, sam = heads.get("distance"), registry.load(exported)
    raw = predictions.dense_logits(sam, image, channels=head.channels, scale=None, device=torch.device("cpu"))
    values = record.read(lora_run.results, lora_run.run.id)
    assert values is not None and values.scores is not None
    assert np.array_equal(found, head.instances(raw, **values.scores["post_processing"]))


def executed_here(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Execute code in a folder, in this process; returns its names."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_card_s_code_for_peft_alone_gives_the_outputs(
    exported: Path, lora_run: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = code_of(exported)[1]
    assert "registry.load" not in code and "PeftModel.from_pretrained" in code
    model = executed_here(code, exported, monkeypatch)["model"]
    assert float((outputs_of(model) - lora_run.outputs).abs().max() / lora_run.outputs.abs().max()) <= 1e-6


def test_the_merged_checkpoint_gives_the_outputs(exported: Path, lora_run: Trained) -> None:
    sam = backbones.build("sam_nano", 64, checkpoint=exported / "sam_nano_merged.pth")
    assert float((outputs_of(sam) - lora_run.outputs).abs().max() / lora_run.outputs.abs().max()) <= 1e-5


@pytest.mark.parametrize("strategy", ["adapter", "full"])
def test_other_strategies_load_by_the_card_s_code(strategy: str, own_run: MAKE, tmp_path: Path) -> None:
    made = own_run(replace(RUN, strategy=strategy, options=strategies.options(strategy)))
    written = export(made.run.id, tmp_path / "model", results=made.results)
    assert written.files == ("README.md", "model.json", "trained.safetensors")
    assert "PeftModel" not in (tmp_path / "model" / "README.md").read_text()
    ways = {"registry.load"} | ({"the plain backbone"} if strategy == "full" else set())
    assert written.differences.keys() == ways
    assert len(code_of(tmp_path / "model")) == len(ways)
    assert torch.equal(outputs_of(registry.load(tmp_path / "model")), made.outputs)


@pytest.mark.parametrize("tta", [False, True])
def test_the_card_s_code_cuts_large_images_at_a_scale_as_the_evaluation_does(
    tta: bool, own_run: MAKE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from bench.training import predictions
    from registry import heads, loading

    made = own_run(replace(RUN, scale=1.5, tta=tta))
    export(made.run.id, tmp_path / "model", results=made.results)
    code = code_of(tmp_path / "model")[0]
    assert "scale = 1.5\n" in code
    segment = executed_here(code, tmp_path / "model", monkeypatch)["segment"]
    assert segment(np.zeros((30, 42, 3), np.uint8)).shape == (30, 42)
    image = np.random.default_rng(0).integers(0, 256, (90, 71, 3), np.uint8)  # 135 × 106 px of inputs of 64
    sam, head = registry.load(tmp_path / "model"), heads.get("distance")
    assert loading.read(tmp_path / "model").tta is loading.read(made.folder).tta is tta
    raw = predictions.raw_prediction(sam, head, image, scale=1.5, autocast=nullcontext, tta=tta)
    values = record.read(made.results, made.run.id)
    assert values is not None and values.scores is not None
    image.setflags(write=False)  # as `PIL` gives it
    nuclei = segment(image)
    assert nuclei.max() > 0 and np.array_equal(nuclei, head.instances(raw, **values.scores["post_processing"]))


def test_the_same_run_gives_the_same_bytes(exported: Path, lora_run: Trained, tmp_path: Path) -> None:
    export(f"{RUN.backbone}/{RUN.strategy}/1", tmp_path / "again", results=lora_run.results, merged=True)
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_command_says_what_it_wrote_and_how_outputs_differ(lora_run: Trained, tmp_path: Path) -> None:
    words = ["export", str(lora_run.folder), str(tmp_path / "model")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    lines = done.output.strip().splitlines()
    assert lines[0] == str(tmp_path / "model")
    assert lines[1] == "  loaded by registry.load: largest difference of outputs 0.0e+00 of the largest output"
    assert lines[2].startswith("  loaded by peft: largest difference of outputs ")


def test_progress_is_told(lora_run: Trained, tmp_path: Path) -> None:
    steps: list[str] = []
    export(lora_run.run.id, tmp_path / "model", results=lora_run.results, progress=steps.append)
    assert steps == [
        "rebuilding the model",
        "writing the trained part",
        "comparing the outputs of registry.load",
        "comparing the outputs of peft",
    ]


# --- refusals: nothing is written ------------------------------------------------------------------------------


def refused(text: str, target: Path, results: Path, error: type[Exception] = BenchError, **options: Any) -> str:
    """Return the text of the error of an export, after which neither the folder nor a part of it is left."""
    with pytest.raises(error) as raised:
        export(text, target, results=results, **options)
    assert not target.exists()
    assert not list(target.parent.glob(".*.partial"))
    return str(raised.value)


def test_a_run_that_failed_is_refused_with_its_reason(own_run: MAKE, tmp_path: Path) -> None:
    made = own_run(status="failed", reason="loss is NaN")
    text = refused(made.run.id, tmp_path / "model", made.results)
    assert f"the run {made.run.id} (sam_nano/lora_qv, fold 1) has no model: it failed (loss is NaN)." in text
    assert "`bench retry`" in text


def test_a_run_without_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results" / "runs" / "abc123").mkdir(parents=True)
    text = refused("abc123", tmp_path / "model", tmp_path / "results")
    assert text.startswith("the run abc123 has no record yet: it is running, waiting or was stopped")


def test_an_unknown_run_is_refused(lora_run: Trained, tmp_path: Path) -> None:
    assert "no run 'nothing' in" in refused("nothing", tmp_path / "model", lora_run.results)


def test_a_run_that_trained_nothing_is_refused(own_run: MAKE, tmp_path: Path) -> None:
    made = own_run(replace(RUN, strategy="zero_shot", head="everything", options={}, train={}))
    text = refused(made.run.id, tmp_path / "model", made.results)
    assert "trained nothing: its model is the backbone itself, registry.backbones.build('sam_nano')" in text


def test_the_classical_pipeline_is_refused(tmp_path: Path) -> None:
    import fabricated

    values = replace(fabricated.record(CLASSICAL_RUN.as_dict()), id=CLASSICAL_RUN.id)
    record.write(tmp_path / "results", values)
    text = refused(CLASSICAL_RUN.id, tmp_path / "model", tmp_path / "results")
    assert "is the classical pipeline: it has no network that could be exported." in text


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_damaged_trained_part_is_refused(damage: str, own_run: MAKE, tmp_path: Path) -> None:
    made = own_run()
    path = made.folder / "trained" / "adapter_model.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut off":
        path.write_bytes(content[:1000])
    text = refused(made.run.id, tmp_path / "model", made.results, WeightsError)
    assert re.search(r"adapter_model\.safetensors can't be read .*train again, or restore the file", text)


def test_a_missing_trained_folder_is_refused(own_run: MAKE, tmp_path: Path) -> None:
    import shutil

    made = own_run()
    shutil.rmtree(made.folder / "trained")
    assert "can't be read" in refused(made.run.id, tmp_path / "model", made.results, WeightsError)


def test_a_folder_that_is_not_empty_stays_as_it_is(lora_run: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match=r"exists and is not an empty folder; name another one, or remove it first"):
        export(lora_run.run.id, tmp_path, results=lora_run.results)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_read_only_disk_is_named(lora_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import cli

    make_folder = Path.mkdir

    def read_only(self: Path, *args: Any, **options: Any) -> None:
        if self.name.endswith(".partial"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        make_folder(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    monkeypatch.setattr(sys, "argv", ["bench", "export", str(lora_run.folder), str(tmp_path / "model")])
    shown: list[str] = []
    monkeypatch.setattr(
        cli, "console", lambda **_: type("Console", (), {"print": lambda _, text, **__: shown.append(text)})()
    )
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "Read-only file system. Make it writable, or name another place" in shown[0]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(lora_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry import trained

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trained, "save_file", full)
    assert "No space left" in refused(lora_run.run.id, tmp_path / "model", lora_run.results, OSError)
    assert list(tmp_path.iterdir()) == []


def test_adapters_are_not_merged(own_run: MAKE, tmp_path: Path) -> None:
    made = own_run(replace(RUN, strategy="adapter", options={"reduction": 4, "scale": 0.5}))
    text = refused(made.run.id, tmp_path / "model", made.results, StrategyError, merged=True)
    assert "Export without --merged and load the folder with registry.load" in text


def test_a_folder_that_would_compute_something_else_is_refused(
    own_run: MAKE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy that changes the forward pass without a parameter: only the outputs tell."""
    monkeypatch.setattr(strategies._store, "_entries", dict(strategies._store._entries))

    @strategies.register("hooked", summary="s", source="s", encoder_lr=1e-3)
    def hooked(sam: Any, *, tokens: tuple[int, ...]) -> None:
        from registry import trainable

        trainable.freeze(sam)
        trainable.train_decoder(sam, tokens)
        sam.image_encoder.register_forward_hook(lambda module, inputs, output: 2 * output)

    made = own_run(replace(RUN, strategy="hooked", options={}))
    text = refused(made.run.id, tmp_path / "model", made.results)
    assert text.startswith("nothing was written: loaded by the plain backbone, the model's outputs differ from the run")


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an official checkpoint of sam_nano, whose card names it."""
    entry = backbones.get("sam_nano")
    checkpoint = Checkpoint(url="https://example.org/nano.pth", filename="nano.pth")
    changed = replace(entry, card=replace(entry.card, checkpoint=checkpoint))
    monkeypatch.setitem(backbones._store._entries, "sam_nano", changed)
    (tmp_path / "weights").mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        torch.save(backbones.build("sam_nano", 64).state_dict(), tmp_path / "weights" / "nano.pth")
    return tmp_path / "weights"


def test_a_run_on_official_weights_needs_the_same_checkpoint(official: Path, own_run: MAKE, tmp_path: Path) -> None:
    digest = digests.of(official / "nano.pth")
    origin = provenance(checkpoint=str(official / "nano.pth"), checkpoint_digest=digest)
    run = replace(RUN, weights="official")
    made = own_run(run, checkpoint=official / "nano.pth", provenance=origin)
    export(run.id, tmp_path / "model", results=made.results, merged=True, weights=official)
    assert torch.equal(outputs_of(registry.load(tmp_path / "model", weights=official)), made.outputs)
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"`nano.pth` (`bench weights fetch sam_nano`), whose sha256 is `{digest}`" in card
    assert 'checkpoint="nano.pth")' in code_of(tmp_path / "model")[1] and "random-weights" not in card
    made.change(provenance={**origin, "checkpoint_digest": "0" * 64})
    text = refused(run.id, tmp_path / "other", made.results, WeightsError, weights=official)
    assert "is not the checkpoint that sam_nano was trained on" in text


def test_a_missing_official_checkpoint_is_named(official: Path, own_run: MAKE, tmp_path: Path) -> None:
    run = replace(RUN, weights="official")
    made = own_run(run, checkpoint=official / "nano.pth")
    (official / "nano.pth").unlink()
    text = refused(run.id, tmp_path / "model", made.results, WeightsError, weights=official)
    assert "checkpoint of sam_nano: missing: run `bench weights fetch sam_nano`" in text
