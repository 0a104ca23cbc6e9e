"""`bench run` from its arguments to its records, in this process."""

from __future__ import annotations

import errno
import json
import shutil
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from slurm_commands import put_commands

from bench import folds, run
from bench.errors import BenchError, DivergedError, PlanError
from bench.results import plans, record, run_lock
from bench.submission import execute_plan, prepare, preview, retry_plans
from bench.training import outputs


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_data, tiny_grid):
    """The small world's grid, run once."""
    results = tmp_path_factory.mktemp("results")
    prepared = prepare.prepare(
        str(tiny_grid), data=tiny_data, weights_folder=None, results=results, cluster="inline", device="cpu"
    )
    printed = StringIO()
    code = prepare.run(prepared, console=Console(file=printed, width=200))
    return results, code, printed.getvalue()


def test_every_run_leaves_a_record(finished):
    results, code, printed = finished
    assert code == 0
    records = list(record.read_all(results))
    assert len(records) == 3 * 2 + 2
    assert {r.status for r in records} == {"ok"}
    assert "8 of 8 runs are done, 0 failed. Next: bench table" in printed


def test_a_record_holds_all_blocks(finished):
    found = next(r for r in record.read_all(finished[0]) if r.run["strategy"] == "lora_qv")
    assert (
        found.scores is not None and found.cost is not None and found.audit is not None and found.provenance is not None
    )
    assert found.scores["n_images"] == 3
    assert found.scores["aji"] <= found.scores["dice"] + 1e-12
    assert found.audit["ok"] and found.audit["n_asked"] == found.audit["n_received"] == found.audit["n_held"]
    for key in (
        "parameters_total",
        "parameters_trainable",
        "adapter_bytes",
        "flops",
        "throughput_images_per_s",
        "train_seconds",
    ):
        assert found.cost[key] > 0, key
    for key in ("encoder_latency_ms", "decoder_latency_ms", "postprocessing_latency_ms"):
        assert 0 < found.cost[key]["median"] <= found.cost[key]["p95"]
    for key in ("commit", "versions", "host", "device", "dataset", "folds_digest", "started", "ended"):
        assert found.provenance[key] is not None, key
    assert found.cost["gpu_seconds"] is None  # missing is None: this ran on the CPU


def test_zero_shot_trains_nothing(finished):
    found = next(r for r in record.read_all(finished[0]) if r.run["strategy"] == "zero_shot")
    assert found.cost is not None and found.run["head"] == "everything"
    assert (found.cost["parameters_trainable"], found.cost["adapter_bytes"]) == (0, 0)
    assert found.audit is not None and found.audit["ok"]
    assert (found.audit["n_asked"], found.audit["n_received"], found.audit["n_held"]) == (0, 0, 0)


def test_scores_and_predictions_lie_beside_the_record(finished):
    results = finished[0]
    found = next(r for r in record.read_all(results) if r.run["strategy"] == "decoder_only")
    folder = record.folder(results, found.id)
    rows = pd.read_parquet(folder / "scores.parquet")
    assert found.scores is not None
    assert len(rows) == 3 and rows["pq"].mean() == pytest.approx(found.scores["pq"], abs=1e-12)
    assert {"stem", "organ", "fold", "dice", "aji"} <= set(rows.columns)
    maps = sorted((folder / "predictions").glob("*[0-9].png"))
    assert [p.stem for p in maps] == sorted(rows["stem"])
    assert Image.open(maps[0]).size == (64, 64)
    assert not (folder / "state.pt").exists()
    assert not (folder / "claim.json").exists()
    assert not (folder / "progress.json").exists()


def test_the_fold_manifest_is_the_one_in_the_records(finished):
    import hashlib

    results = finished[0]
    (manifest,) = (results / "folds").iterdir()
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert {r.provenance["folds_digest"] for r in record.read_all(results) if r.provenance} == {digest}


def test_done_runs_are_not_done_again(finished, bench_run, monkeypatch):
    results, _, _ = finished
    before = {p: p.stat().st_mtime_ns for p in results.glob("runs/*/record.json")}
    monkeypatch.setattr(run, "execute", lambda *_, **__: pytest.fail("a finished run was executed again"))
    code, printed = bench_run(results)
    assert code == 0 and "0 runs in this process; 8 done already" in printed
    assert before == {p: p.stat().st_mtime_ns for p in results.glob("runs/*/record.json")}


def test_one_failure_leaves_the_other_runs_and_sets_the_exit_code(tmp_path, bench_run, monkeypatch):
    execute = run.execute

    def sometimes(one, *arguments, **named):
        if one.strategy == "decoder_only" and one.fold == 1:
            raise DivergedError("the loss became nan at step 3; try a smaller train.lr.")
        return execute(one, *arguments, **named)

    monkeypatch.setattr(run, "execute", sometimes)
    code, printed = bench_run(tmp_path, only=["strategy=decoder_only"])
    assert code == 1
    assert "failed sam_nano decoder_only fold 1: diverged: the loss became nan at step 3" in printed
    by_fold = {r.run["fold"]: r for r in record.read_all(tmp_path) if r.run["backbone"] == "sam_nano"}
    assert (by_fold[1].status, by_fold[2].status) == ("failed", "ok")
    assert "DivergedError" in str(by_fold[1].traceback)

    monkeypatch.setattr(run, "execute", execute)
    code, printed = bench_run(tmp_path, only=["strategy=decoder_only"])
    assert code == 1 and "1 failed before and would fail again; `bench retry --failed --results" in printed
    code = retry_plans.retry_plans(tmp_path, console=Console(file=StringIO()), failed=True, detach=False, profile=None)
    again = record.read(tmp_path, by_fold[1].id)
    assert code == 0 and again is not None and again.status == "ok"
    assert again.attempts[0]["reason"].startswith("diverged")


def test_out_of_memory_is_tried_again_with_activations_computed_again_and_then_with_half_the_micro_batch(
    tmp_path, bench_run, monkeypatch
):
    import torch

    execute, tried = run.execute, []

    def tight(one, images, place, **named):
        if one.train:
            tried.append((place.checkpointed, place.micro_batch_halvings))
        if place.micro_batch_halvings < 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return execute(one, images, place, **named)

    monkeypatch.setattr(run, "execute", tight)
    code, _ = bench_run(tmp_path, only=["strategy=lora_qv", "fold=1"], assignments=["train.batch_size=2"])
    (found,) = (r for r in record.read_all(tmp_path) if r.run["strategy"] == "lora_qv")
    assert found.status == "ok" and found.cost is not None and found.cost["micro_batch"] == 1
    assert [one["reason"] for one in found.attempts] == ["out of memory: CUDA out of memory"] * 2
    assert code == 1  # the classical run has no batch to halve
    assert tried == [(False, 0), (True, 0), (True, 1)]


def test_a_bug_is_not_tried_again(tmp_path, bench_run, monkeypatch):
    calls = []

    def broken(one, *_, **__):
        calls.append(one.id)
        raise KeyError("oops")

    monkeypatch.setattr(run, "execute", broken)
    code, printed = bench_run(tmp_path, only=["strategy=lora_qv", "fold=1"])
    assert code == 1 and "KeyError: 'oops'" in printed and len(calls) == len(set(calls)) == 2


def test_a_full_disk_is_reported_and_leaves_no_torn_record(tmp_path, bench_run, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "save_scores", full)
        patch.setattr(record, "write", full)
        code, printed = bench_run(tmp_path, only=["strategy=decoder_only"])
    assert code == 1 and "error: environment: OSError: [Errno 28] No space left on device" in printed
    assert list(record.read_all(tmp_path)) == []
    code, _ = bench_run(tmp_path, only=["strategy=decoder_only"])
    assert code == 0 and {r.status for r in record.read_all(tmp_path)} == {"ok"}


def test_an_unwritable_results_folder_is_refused_first(tmp_path, bench_run):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(BenchError, match=r"can't write to the results folder .*; choose another with --results DIR"):
        bench_run(tmp_path / "results")


def test_all_problems_are_reported_at_once(tmp_path):
    with pytest.raises(PlanError) as caught:
        prepare.prepare(
            "default",
            assignments=["train.epoch=3"],
            only=["backbone=mobilesam"],
            data=tmp_path / "gone",
            weights_folder=tmp_path,
            results=tmp_path,
        )
    text = str(caught.value)
    assert "Did you mean 'train.epochs'?" in text
    assert "Did you mean 'mobile_sam'?" in text
    assert str(tmp_path / "gone") in text and "bench data fetch nuinsseg" in text
    assert "run `bench weights fetch sam_vit_b sam_vit_l" in text


def test_problems_of_a_sweep_are_reported_with_those_of_the_grid(tmp_path, tiny_grid, tiny_data):
    with pytest.raises(PlanError) as caught:
        prepare.prepare(
            str(tiny_grid),
            assignments=["strategy.rank=0,two,4", "seed=1", "seed=2"],
            only=["fold=9"],
            data=tiny_data,
            weights_folder=None,
            results=tmp_path,
        )
    assert caught.value.problems == (
        "seed is set twice: 1 and 2. Give it once. To plan each of these values, write seed=1,2.",
        "strategy.rank='two' is not of type int.",
        "--only fold=9: this grid has folds 1 and 2.",
        "strategy.rank is 0; it must be above 0.",
    )


def test_a_sweep_reuses_the_runs_of_an_earlier_command_and_says_what_is_swept(
    tmp_path, tiny_grid, tiny_data, bench_run, monkeypatch
):
    planned = []
    monkeypatch.setattr(execute_plan, "execute", lambda plan, **_: planned.append(plan) or 0)
    _, printed = bench_run(tmp_path)
    assert "sweep" not in printed
    for run_ in planned[0].runs:
        record.write(tmp_path, record.RunRecord(id=run_.id, status="ok", run=run_.as_dict()))
    sets = ["seed=0,1", "folds.seed=19,20"]
    _, printed = bench_run(tmp_path, assignments=sets)
    assert printed.splitlines()[0] == "sweep: seed 0, 1 × folds.seed 19, 20: 4 settings"
    assert len(list((tmp_path / "folds").glob("*.csv"))) == 2
    prepared = prepare.prepare(
        str(tiny_grid), assignments=sets, data=tiny_data, weights_folder=None, results=tmp_path, cluster="inline"
    )
    assert {run_.id for run_ in prepared.done} == {run_.id for run_ in planned[0].runs}
    assert len(prepared.done) == 8 and len(prepared.pending) == 3 * 2 * 3 + 2  # classical: one more split
    assert plans.read_all(tmp_path)[-1].runs == prepared.plan.runs


def test_more_folds_than_groups_are_refused(tmp_path, bench_run):
    with pytest.raises(PlanError, match=r"6 images in 6 groups can't fill 7 folds: set folds\.n_splits to 6 or less"):
        bench_run(tmp_path, assignments=["folds.n_splits=7"])


def test_runs_of_official_folds_without_images_are_skipped_with_the_reason(tmp_path, tiny_grid, tiny_data):
    names = [
        "human_spleen_01",
        "human_spleen_03",
        "human_spleen_04",
        "human_liver_01",
        "human_liver_02",
        "human_brain_1",
    ]
    fold_of = folds.assign(names)
    root = tmp_path / "part"
    for name, image in zip(names, sorted(tiny_data.glob("*/tissue images/*.png")), strict=True):
        label = image.parents[1] / "label masks modify" / f"{image.stem}.tif"
        for source in (image, label):
            target = root / "part of the release" / source.parent.name / f"{name}{source.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    assignments = ["dataset=nuinsseg", "folds.n_splits=5", "folds.seed=19", "weights=random"]
    prepared = prepare.prepare(
        str(tiny_grid), assignments=assignments, data=root, weights_folder=None, results=tmp_path
    )
    assert {run.fold for run in prepared.plan.runs} == set(fold_of.values())
    reasons = {run.fold: reason for run, reason in prepared.plan.skipped}
    assert reasons.keys() == {1, 2, 3, 4, 5} - set(fold_of.values()) != set()
    for fold, reason in reasons.items():
        assert reason == f"no image of the official fold {fold} is in {root}"


def test_a_dry_run_shows_the_plan_and_runs_nothing(tmp_path, tiny_grid, tiny_data):
    prepared = prepare.prepare(
        str(tiny_grid),
        assignments=["weights=official"],
        data=tiny_data,
        weights_folder=None,
        results=tmp_path,
        cluster="local",
    )
    printed = StringIO()
    preview.dry_run(prepared, console=Console(file=printed, width=200))
    assert "sam_nano has no official checkpoint" in printed.getvalue()
    assert "2 to do, 0 done" in printed.getvalue()
    assert list(Path(tmp_path).iterdir()) == []


def test_a_run_that_was_taken_over_leaves_the_record_to_the_other(tmp_path, bench_run, monkeypatch):
    def slow(one, images, place, **_):
        path = record.folder(place.results, one.id) / "claim.json"
        path.unlink()  # another host took this process for dead, and holds the run now
        path.write_text(json.dumps({"token": "another", "host": "node7", "pid": 1, "born": "x"}))
        raise DivergedError("the loss became nan")

    monkeypatch.setattr(run, "execute", slow)
    monkeypatch.setattr(run_lock, "HEARTBEAT_LIMIT_S", -1.0)  # and is taken for dead in turn
    code, printed = bench_run(tmp_path, only=["backbone=classical", "fold=1"])
    assert code == 1 and "lost: its process was killed" in printed


def test_images_that_changed_since_the_plan_are_refused(tmp_path, tiny_grid):
    from bench.worker.settings import WorkerSettings
    from bench.worker.worker import work
    from registry.datasets import synthetic

    synthetic.write(tmp_path / "data", n_images=4, image_size=64, seed=5, nuclei=(4, 8))
    prepared = prepare.prepare(str(tiny_grid), data=tmp_path / "data", weights_folder=None, results=tmp_path)
    image = next((tmp_path / "data").rglob("*.png"))
    Image.open(image).rotate(90).save(image)
    work(prepared.plan.runs, WorkerSettings(tmp_path, tmp_path / "data", device="cpu"))
    records = list(record.read_all(tmp_path))
    assert len(records) == len(prepared.plan.runs)
    for failed in records:
        assert failed.failures == ("environment",)
        assert failed.reason.startswith(f"environment: the images in {tmp_path / 'data'} have changed: ")
        assert failed.reason.endswith("Run the same command again to plan anew.")


def test_a_plan_can_be_made_before_anything_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = {"only": ["backbone=mobile_sam"], "data": None, "weights_folder": None, "results": tmp_path}
    with pytest.raises(PlanError, match="2 things are wrong"):
        prepare.prepare("default", **arguments)
    ahead = prepare.prepare("default", ahead=True, **arguments)
    assert (ahead.images.n_images, len(ahead.pending)) == (665, 35)
    assert "bench data fetch nuinsseg" in ahead.absent[0] and "mobile_sam.pt" in ahead.absent[1]


def test_timings_are_left_out_where_runs_share_a_device(tmp_path, tiny_grid, tiny_data):
    from bench.worker.settings import WorkerSettings
    from bench.worker.worker import work

    prepared = prepare.prepare(
        str(tiny_grid), only=["strategy=decoder_only", "fold=1"], data=tiny_data, weights_folder=None, results=tmp_path
    )
    work(prepared.plan.runs, WorkerSettings(tmp_path, tiny_data, device="cpu", runs_at_once=2))
    for found in record.read_all(tmp_path):
        assert found.status == "ok" and found.cost is not None and found.provenance is not None
        assert found.provenance["runs_at_once"] == 2
        assert found.cost["postprocessing_latency_ms"] is None and found.cost.get("encoder_latency_ms") is None
        assert found.cost.get("flops", 1) > 0


def test_plans_of_one_place_are_retried_as_one(tmp_path, bench_run, monkeypatch):
    execute = run.execute
    monkeypatch.setattr(run, "execute", lambda *_, **__: (_ for _ in ()).throw(KeyError("oops")))
    bench_run(tmp_path, only=["strategy=decoder_only", "fold=1"])
    bench_run(tmp_path, only=["strategy=lora_qv", "fold=1"])
    monkeypatch.setattr(run, "execute", execute)
    printed = StringIO()
    code = retry_plans.retry_plans(tmp_path, console=Console(file=printed), failed=True, detach=False, profile=None)
    assert code == 0 and "3 runs in this process; 0 done already" in printed.getvalue()
    assert "3 of 3 runs are done, 0 failed" in printed.getvalue()


def test_a_gpu_is_asked_for_where_jobs_run_and_not_on_the_login_node(tmp_path, tiny_grid, tiny_data, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, sbatch="exit 0", sinfo="echo 'gpu|gpu*|infinite|16|64000|gpu:4|(null)'")
    monkeypatch.setattr(prepare, "_has_gpu", lambda: False)
    places = {"data": tiny_data, "weights_folder": None, "results": tmp_path / "results"}
    prepared = prepare.prepare(str(tiny_grid), cluster="auto", device="cuda", **places)
    assert (prepared.executor, prepared.is_fallback) == ("slurm", False)
    with pytest.raises(PlanError, match=r"--device cuda: no GPU is usable here; use --device auto, or --device cpu\."):
        prepare.prepare(str(tiny_grid), cluster="local", device="cuda", **places)


def test_a_profile_that_no_node_serves_is_refused_by_run_and_warned_of_by_plan(
    tmp_path, tiny_grid, tiny_data, monkeypatch
):
    put_commands(
        tmp_path / "bin",
        monkeypatch,
        sbatch="exit 0",
        sinfo="echo 'gpu|gpu*|infinite|2|10000|gpu:1|(null)'",
        scontrol="echo 'MaxArraySize = 1001'",
    )
    places = {"data": tiny_data, "weights_folder": None, "results": tmp_path / "results"}
    with pytest.raises(PlanError) as caught:
        prepare.prepare(str(tiny_grid), cluster="slurm", device="cpu", **places)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["profile default"] * 2
    assert "cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs" in caught.value.problems[0]
    assert "memory_gb_per_gpu = 48: no node of partition gpu has more than 9 GB" in caught.value.problems[1]
    printed = StringIO()
    preview.show_costs(prepare.prepare(str(tiny_grid), **places), console=Console(file=printed, width=200))
    assert "warning  profile default: cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs" in (
        printed.getvalue()
    )


def profile_file(folder: Path, **values: object) -> str:
    path = folder / "mine.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return str(path)


def test_a_time_limit_that_no_partition_grants_is_a_problem_with_all_others(
    tmp_path, tiny_grid, tiny_data, monkeypatch
):
    line = "gpu|gpu*|30:00|2|64000|gpu:1|(null)"
    put_commands(tmp_path / "bin", monkeypatch, sbatch="exit 0", sinfo=f"echo '{line}'")
    places = {"data": tiny_data, "weights_folder": None, "results": tmp_path / "results", "only": ["fold=1"]}
    long = profile_file(tmp_path, partition="gpu", time_limit_min=60, runs_per_job=1000)
    with pytest.raises(PlanError) as caught:
        prepare.prepare(str(tiny_grid), cluster="slurm", device="cpu", profile=long, **places)
    requests, time_limit = caught.value.problems
    assert "cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs" in requests
    assert "time_limit_min = 60: a job asks for 60 minutes, and partition gpu allows 30" in time_limit


def test_what_another_partition_may_serve_is_a_warning_of_run_alone(
    tmp_path, tiny_grid, tiny_data, monkeypatch, caplog
):
    lines = "gpu|gpu*|infinite|2|64000|gpu:1|(null)\ncpu|cpu|infinite|64|64000|(null)|(null)"
    put_commands(tmp_path / "bin", monkeypatch, sbatch="exit 0", sinfo=f"printf '{lines}\n'")
    places = {"data": tiny_data, "weights_folder": None, "results": tmp_path / "results"}
    prepare.prepare(str(tiny_grid), cluster="slurm", device="cpu", ahead=True, **places)
    assert caplog.messages == []  # `preview` prints it
    assert prepare.prepare(str(tiny_grid), cluster="slurm", device="cpu", **places).executor == "slurm"
    assert caplog.messages == [
        "profile default: cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs; write cpus_per_gpu = 2 or "
        "less in the profile. Jobs without a partition may wait for ever there; set partition in the profile (cpu)."
    ]


def test_a_percent_sign_in_the_path_of_the_results_is_refused(tmp_path, bench_run):
    with pytest.raises(BenchError, match=r"the results folder .*50%j has a % in its path, .*another with --results"):
        bench_run(tmp_path / "50%j")
    assert not (tmp_path / "50%j").exists()


def test_retry_and_cancel_in_a_folder_that_is_not_writable_say_so(tmp_path, bench_run, monkeypatch):
    from bench.submission import cancel, results_folder

    bench_run(tmp_path, only=["backbone=classical", "fold=1"])

    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(results_folder.tempfile, "NamedTemporaryFile", refuse)
    console = Console(file=StringIO())
    text = r"can't write to the results folder .*: Read-only file system; choose another with --results DIR\."
    with pytest.raises(BenchError, match=text):
        retry_plans.retry_plans(tmp_path, console=console, failed=False, detach=False, profile=None)
    with pytest.raises(BenchError, match=text):
        cancel.cancel(tmp_path, (), everything=True, console=console)


def test_the_next_command_after_a_failure_of_the_environment_is_retry(tmp_path, bench_run, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/mask.png")

    monkeypatch.setattr(run, "execute", fail)
    code, printed = bench_run(tmp_path, only=["backbone=classical", "fold=1"])
    assert code == 1 and "environment: PermissionError: [Errno 13] Permission denied: '/data/mask.png'" in printed
    assert "0 of 1 runs are done, 1 failed. Next: bench retry --results" in printed
