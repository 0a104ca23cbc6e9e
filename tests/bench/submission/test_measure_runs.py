"""`bench measure` on two runs that are done, one of a model and the classical one."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report import show_table
from bench.results import record, run_lock
from bench.results.measurement import MEASURED, disturbances
from bench.submission import measure_runs
from bench.training import costs, load
from bench.worker import measure_again

MODEL, REFERENCE = "sam_nano/lora_qv/1", f"{CLASSICAL}/{CLASSICAL}/1"
TAKEN = {
    "encoder_latency_ms": {"median": 3.0, "p95": 4.0, "q1": 2.9, "q3": 3.1, "repeats": 20, "others": 0.0, "own": 1.0},
    "flops": 1,
    "latency_busy": False,
    "latency_busy_because": [],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_grid: Path) -> Path:
    """A results folder with two runs."""
    from bench.submission import prepare

    results = tmp_path_factory.mktemp("done") / "results"
    only = ("strategy=lora_qv", "fold=1")
    options: dict[str, Any] = {"weights_folder": None, "results": results, "cluster": "inline", "device": "cpu"}
    prepared = prepare.prepare(str(tiny_grid), assignments=("train.epochs=1",), only=only, data=tiny_data, **options)
    assert prepare.run(prepared, console=Console(file=io.StringIO())) == 0
    return results


@pytest.fixture
def results(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `done`, on a machine that is quiet."""
    monkeypatch.setattr(load, "disturbance", lambda device: [])
    return Path(shutil.copytree(done, tmp_path / "results"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of a model return at once."""
    monkeypatch.setattr(costs, "of_trained", lambda *_: dict(TAKEN))


def measure(results: Path, *names: str, **changes: Any) -> tuple[int, str]:
    """`bench measure`; returns the exit code and what was printed."""
    printed = io.StringIO()
    options: dict[str, Any] = {"everything": not names, "places": measure_runs.Places(), "device": "cpu"}
    options |= {"force": False, **changes}
    code = measure_runs.measure_runs(results, names, console=Console(file=printed, width=300), **options)
    return code, printed.getvalue()


def path_of(results: Path, name: str) -> Path:
    from bench.status import run_names

    return record.folder(results, run_names.find(results, name)) / record.FILENAME


def values(results: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path_of(results, name).read_text())
    return content


def change(results: Path, name: str, alter: Callable[[dict[str, Any]], object]) -> None:
    content = values(results, name)
    alter(content)
    path_of(results, name).write_text(json.dumps(content))


def test_every_done_run_is_measured_again_and_nothing_else_changes(results: Path) -> None:
    before = {name: values(results, name) for name in (MODEL, REFERENCE)}
    code, printed = measure(results)
    assert code == 0
    assert printed.splitlines()[-1].startswith("Measured 2 runs; `bench table --results ")
    for name, old in before.items():
        new = values(results, name)
        assert {k: v for k, v in new.items() if k != "cost"} == {k: v for k, v in old.items() if k != "cost"}
        kept = {k: v for k, v in new["cost"].items() if k not in (*MEASURED, "measurement", "earlier_measurements")}
        assert kept == {k: v for k, v in old["cost"].items() if k not in MEASURED}
        (earlier,) = new["cost"]["earlier_measurements"]
        assert earlier.pop("measurement")["ended"] == old["provenance"]["ended"]
        assert earlier == {k: v for k, v in old["cost"].items() if k in MEASURED}
        assert new["cost"]["measurement"]["host"] == old["provenance"]["host"]
        assert new["cost"]["measurement"]["device"] == "cpu"
        assert new["cost"]["postprocessing_latency_ms"]["median"] > 0
        reasons = disturbances(new["cost"], "cpu")
        assert reasons is not None  # fast as the model is, the load was measured
        assert (new["cost"]["latency_busy"], new["cost"]["latency_busy_because"]) == (bool(reasons), reasons)
        assert run_lock.holder(path_of(results, name).parent) is None
    assert values(results, MODEL)["cost"]["encoder_latency_ms"]["q1"] > 0
    assert "encoder_latency_ms" not in values(results, REFERENCE)["cost"]
    assert "measured again" in (path_of(results, MODEL).parent / "log.txt").read_text()


def test_a_run_that_shared_its_gpu_gets_latencies_and_keeps_unknown_hours(results: Path, quick: None) -> None:
    shared = dict.fromkeys((*MEASURED, "train_seconds", "gpu_seconds"))
    change(results, MODEL, lambda content: content["cost"].update(shared))
    code, printed = measure(results, MODEL)
    cost = values(results, MODEL)["cost"]
    assert (code, cost["encoder_latency_ms"]["median"], cost["train_seconds"]) == (0, 3.0, None)
    assert "3.0 ms, not measured before." in printed


def test_measurements_add_up_oldest_first(results: Path, quick: None) -> None:
    change(results, MODEL, lambda content: content["cost"]["encoder_latency_ms"].update(median=77.0))
    for _ in range(2):
        measure(results, MODEL)
    earlier = values(results, MODEL)["cost"]["earlier_measurements"]
    medians = [measurement["encoder_latency_ms"]["median"] for measurement in earlier]
    assert medians == [77.0, 3.0]


def test_a_busy_machine_is_refused_unless_forced(results: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "disturbance", lambda device: ["other processes take 85 % of the cores' time"])
    before = path_of(results, MODEL).read_bytes()
    with pytest.raises(BenchError) as error:
        measure(results, MODEL)
    assert str(error.value) == (
        "the machine is busy: other processes take 85 % of the cores' time. Latencies taken now would be too long, and "
        "marked as such. Wait until it is quiet, or add --force."
    )
    assert path_of(results, MODEL).read_bytes() == before
    code, printed = measure(results, MODEL, force=True)
    assert code == 0 and printed.startswith("the machine is busy: other processes take 85 %")


def test_runs_that_are_not_done_are_passed_over_with_a_sentence(results: Path, quick: None) -> None:
    change(results, MODEL, lambda content: content.update(status="failed", reason="diverged at step 3"))
    code, printed = measure(results)
    assert code == 0  # --all is of what is done
    assert f"({MODEL}): not measured, because it is not done (failed: diverged at step 3)." in printed
    code, printed = measure(results, MODEL, REFERENCE)
    assert code == 1 and "Measured 1 run;" in printed
    with pytest.raises(BenchError, match=r"no run in .* that is done was named; `bench status --results"):
        measure(results, MODEL)


def test_requests_that_name_nothing_are_refused(results: Path) -> None:
    with pytest.raises(BenchError, match="nothing is measured: name runs"):
        measure(results, everything=False)
    with pytest.raises(BenchError, match=r"no run 'sam_nano/lora_qw/1' in .*Did you mean sam_nano/lora_qv/1"):
        measure(results, "sam_nano/lora_qw/1")


def test_a_damaged_record_is_said_and_the_other_runs_are_measured(results: Path, quick: None) -> None:
    path_of(results, REFERENCE).write_text("{torn")
    damaged = path_of(results, REFERENCE)
    code, printed = measure(results)
    assert code == 1 and "Measured 1 run;" in printed
    assert f"{damaged.parent.name}: not measured, {damaged} can't be read as a record" in printed
    assert values(results, MODEL)["cost"]["encoder_latency_ms"]["median"] == 3.0
    code, _ = measure(results, MODEL)  # a run that was not named is nobody's concern
    assert code == 0
    path_of(results, MODEL).write_text("{torn")
    with pytest.raises(BenchError, match=r"no run in .* that is done"):
        measure(results)


@pytest.mark.parametrize("broken", ["images", "trained", "lock", "checkpoint", "gpu", "unnamed gpu", "memory"])
def test_a_run_that_cannot_be_measured_keeps_its_record_and_says_why(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    changes: dict[str, Any] = {}
    if broken == "images":
        changes["places"] = measure_runs.Places(data=tmp_path / "absent")
        expected = f"the data folder {tmp_path / 'absent'} does not exist"
    elif broken == "trained":
        (path_of(results, MODEL).parent / "trained" / "trained.safetensors").write_bytes(b"torn")
        expected = "trained.safetensors can't be read"
    elif broken == "lock":
        monkeypatch.setattr(run_lock, "acquire", lambda folder: None)
        expected = "another process works on it"
    elif broken == "checkpoint":
        change(results, MODEL, lambda content: content["provenance"].update(checkpoint_digest="abc"))
        expected = "the run was trained on abc; name the folder of that one with --weights DIR."
    elif broken == "gpu":
        change(results, MODEL, lambda content: content["provenance"].update(gpu="NVIDIA A100"))
        change(results, MODEL, lambda content: content["cost"].update(device="cuda"))
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        changes["device"] = "auto"
        expected = "its other costs were measured on NVIDIA A100, and there is no GPU here; --device cpu insists."
    elif broken == "unnamed gpu":
        change(results, MODEL, lambda content: content["provenance"].update(gpu=None))
        change(results, MODEL, lambda content: content["cost"].update(device="cuda:0"))
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        changes["device"] = "auto"
        expected = "its other costs were measured on a GPU, and there is no GPU here; --device cpu insists."
    else:
        monkeypatch.setattr(costs, "of_trained", raise_out_of_memory)
        expected = "CUDA out of memory"
    before = path_of(results, MODEL).read_bytes()
    code, printed = measure(results, MODEL, **changes)
    assert code == 1
    assert f"({MODEL}): not measured, " in printed and expected in printed
    assert path_of(results, MODEL).read_bytes() == before


@pytest.mark.parametrize("gpu", [None, "NVIDIA A100"])
def test_a_run_on_the_cpu_is_not_measured_on_a_gpu_unless_that_is_wanted(
    results: Path, quick: None, monkeypatch: pytest.MonkeyPatch, gpu: str | None
) -> None:
    """The record names the GPU of a node whether the run used it or not."""
    change(results, MODEL, lambda content: content["provenance"].update(gpu=gpu))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(measure_again.provenance, "machine", lambda device: {"device": device})
    before = path_of(results, MODEL).read_bytes()
    code, printed = measure(results, device="auto")
    assert code == 1 and "Measured 1 run;" in printed  # the classical pipeline, which runs on the CPU anyway
    assert (
        f"({MODEL}): not measured, its other costs were measured on the CPU, and there is a GPU here; --device cpu "
        "measures on the CPU again, --device cuda insists on the GPU." in printed
    )
    assert path_of(results, MODEL).read_bytes() == before
    assert measure(results, MODEL, device="cuda")[0] == 0
    assert values(results, MODEL)["cost"]["measurement"]["device"] == "cuda"


def raise_out_of_memory(*_: object) -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_run_that_was_taken_over_meanwhile_is_not_written(
    results: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock.RunLock, "is_ours", lambda self: False)
    before = path_of(results, MODEL).read_bytes()
    code, printed = measure(results, MODEL)
    assert code == 1 and "another process took it over meanwhile; nothing was written." in printed
    assert path_of(results, MODEL).read_bytes() == before


def test_a_read_only_results_folder_is_said(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(BenchError, match=r"can't write to the results folder .*: Read-only file system; choose"):
        measure(results, MODEL)


def test_a_record_of_another_version_is_said(results: Path, quick: None) -> None:
    change(results, MODEL, lambda content: content["run"].update(colour="red"))
    code, printed = measure(results, MODEL)
    assert code == 1 and "its record is of another version" in printed


def test_images_are_verified_once_for_all_runs(results: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        measure_again.inputs,
        "samples",
        lambda run, folder, real=measure_again.inputs.samples: calls.append(folder) or real(run, folder),
    )
    assert measure(results)[0] == 0
    assert len(calls) == 1


def test_the_table_shows_the_new_latency(results: Path, quick: None) -> None:
    measure(results, MODEL)
    show_table(results, format="csv", output=results / "a.csv", console=Console(file=io.StringIO()))
    table = pd.read_csv(results / "a.csv")
    (row,) = table[(table["kind"] == "run") & (table["strategy"] == "lora_qv")].to_dict("records")
    assert row["encoder_latency_ms"] == 3.0
