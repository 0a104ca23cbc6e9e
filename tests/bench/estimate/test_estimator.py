"""What runs need: from records, from counts, and where neither tells anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabricated import record

from bench.estimate import estimator, flops, resources
from bench.estimate.flops import StepCost
from bench.grid import CLASSICAL, Run
from bench.planning import plan
from bench.slurm.profile import ClusterProfile

PROFILE = ClusterProfile(gpu_tflops=100.0, utilisation=0.25, gpu_memory_gb=40)
TRAIN = {"epochs": 10, "batch_size": 8, "lr": 1e-3, "validate_every": 2}
RUN = Run(
    backbone="sam_nano",
    strategy="lora_qv",
    head="distance",
    dataset="synthetic",
    dataset_digest="0",
    fold=1,
    n_splits=5,
    fold_seed=19,
    validation_fraction=0.2,
    seed=0,
    weights="random",
    image_size=64,
    scale=None,
    options={"rank": 4},
    train=TRAIN,
)
ZERO_SHOT = replace(RUN, strategy="zero_shot", head="everything", options={}, train={})
CLASSIC = replace(
    RUN, backbone=CLASSICAL, strategy=CLASSICAL, head=CLASSICAL, options={}, train={}, validation_fraction=None
)
GB = 2**30


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nuclei-bench" / "estimates"


def finished(run: Run = RUN, **cost: object):
    values = {
        "device": "cuda",
        "memory_kind": "cuda",
        "gpu_seconds": 600.0,
        "train_peak_bytes": 8 * GB,
        "micro_batch": 8,
        "inference_peak_bytes": 2 * GB,
        "parameters_trainable": 1000,
        "adapter_bytes": 4000,
        "train_steps": 80,
    }
    return record(run.as_dict(), cost={**values, **cost})


def needs_of(run: Run = RUN, records=(), profile: ClusterProfile = PROFILE, n_images: int = 100, **more):
    return estimator.estimate_resources([run], records=records, profile=profile, n_images=n_images, **more)[run.id]


def test_how_many_images_a_run_handles():
    # 100 images: 20 are tested, 16 of the other 80 validate; 5 validations, 1 more to choose.
    candidates = 6 + 4 + 5 + 3 + 4 - 5  # the five defaults among them are tried once, together
    assert resources.workload(RUN, 100) == resources.Workload(
        trained=64 * 10, predicted=16 * 6 + 20, post_processed=16 * (5 + 1 + candidates) + 20, tested=20
    )
    assert resources.workload(ZERO_SHOT, 100).trained == 0
    assert resources.workload(ZERO_SHOT, 100).predicted == 16 + 20
    assert resources.workload(CLASSIC, 100) == resources.Workload(0, 0, 20, 20)


def test_tiles_count_where_images_are_larger_than_the_input():
    tiled = replace(RUN, scale=1.0)
    # 128 px at scale 1 fill 2 × 2 inputs of 64 px in training; predicting takes 3 × 3 that overlap by 16 px.
    assert resources.workload(tiled, 100, (128, 128)).trained == 4 * 640
    assert resources.workload(tiled, 100, (128, 128)).predicted == 9 * (16 * 6 + 20)
    assert resources.workload(tiled, 100) == resources.workload(RUN, 100)


def test_measured_runs_of_other_folds_and_seeds_come_first():
    records = [
        finished(replace(RUN, fold=2)),
        finished(replace(RUN, fold=3, seed=7), gpu_seconds=1200.0, train_peak_bytes=9 * GB),
        record(replace(RUN, fold=4).as_dict(), status="failed", reason="error: something"),
    ]
    found = needs_of(records=records)
    assert found.basis == "measured: 2 runs on NVIDIA A100"
    assert found.minutes == 15
    assert found.gpu_memory_bytes == 9 * GB + GB // 2
    assert (found.disk_bytes, found.state_bytes) == (404_000, 32_000)
    assert (found.factor, found.kind, found.micro_batch) == (1.5, "measured", 8)


def test_runs_of_other_length_are_scaled_by_the_inputs_they_trained_on():
    longer = replace(RUN, train=TRAIN | {"epochs": 20})
    found = needs_of(longer, [finished()])  # 80 steps of 8 in 10 minutes; here 64 images, 20 times
    assert found.minutes == 20
    assert found.basis == "scaled: 1 run of other length or batch on NVIDIA A100"
    assert found.kind == "scaled"


def test_a_larger_batch_takes_as_much_more_memory():
    found = needs_of(replace(RUN, train=TRAIN | {"batch_size": 16}), [finished()])
    assert found.gpu_memory_bytes == 2 * (8 * GB + GB // 2)
    assert found.micro_batch == 16


@pytest.mark.parametrize("change", [{"options": {"rank": 8}}, {"image_size": 128}, {"strategy": "adapter"}])
def test_other_work_tells_nothing(change):
    assert needs_of(records=[finished(replace(RUN, **change))]).kind == "FLOPs"


def test_runs_on_a_cpu_tell_nothing_of_gpus_and_the_other_way_round():
    on_cpu = finished(device="cpu", memory_kind="rss", gpu_seconds=None, train_seconds=100.0, evaluate_seconds=20.0)
    assert needs_of(records=[on_cpu]).kind == "FLOPs"
    found = needs_of(records=[on_cpu], profile=replace(PROFILE, gpus=0))
    assert (found.minutes, found.gpu_memory_bytes) == (2, None)
    unmeasured = needs_of(records=[finished()], profile=replace(PROFILE, gpus=0))
    assert unmeasured.basis == "unknown: no run of this kind was measured on a CPU"


def test_the_classical_pipeline_needs_no_gpu():
    found = needs_of(CLASSIC)
    assert (found.minutes, found.gpu_memory_bytes, found.basis) == (20 * 0.4 / 60, 0, "no GPU")


def test_minutes_and_memory_by_hand():
    one = StepCost(
        parameters=100 * 10**6,
        trainable=10**6,
        train_flops=10**12,
        infer_flops=10**11,
        fixed_bytes=GB,
        image_bytes=10 * GB,
    )
    amount = resources.Workload(trained=1000, predicted=500, post_processed=100, tested=20)
    found = estimator.resources_from_step_cost(RUN, one, PROFILE, amount)
    # (1000 × 1 + 500 × 0.1) TFLOP at a quarter of 100 TFLOP/s, and 100 × 40 ms.
    assert found.minutes == pytest.approx((1050 / 25 + 4) / 60)
    # At 8 images 81 GB and more; 2 are what 40 GB hold: weights, gradients and moments, copies, images, CUDA.
    assert found.micro_batch == 2
    assert found.gpu_memory_bytes == 400 * 10**6 + 12 * 10**6 + GB + 20 * GB + GB // 2
    assert (found.disk_bytes, found.state_bytes) == (4 * 10**6 + 400_000, 32 * 10**6)
    assert (found.basis, found.factor) == ("FLOPs at 25 % of 100 TFLOP/s", 3)


def test_the_update_needs_memory_when_activations_are_gone():
    one = StepCost(10, 10, 1, 1, fixed_bytes=0, image_bytes=1)
    assert one.peak_bytes(8) == 4 * 10 + 12 * 10 + 4 * 10


def test_counts_are_made_once(cache, monkeypatch):
    told = []
    first = needs_of(progress=lambda *values: told.append(values))
    assert told == [("sam_nano × lora_qv", 0, 1)]
    assert first.kind == "FLOPs" and first.minutes and first.gpu_memory_bytes
    (file,) = cache.iterdir()
    assert file.name.startswith("sam_nano-lora_qv-")

    monkeypatch.setattr(flops, "count_step", None)
    assert needs_of() == first
    other_length = needs_of(replace(RUN, train=TRAIN | {"epochs": 20}))
    assert other_length.minutes > first.minutes  # the same model, so nothing is counted


def test_a_damaged_count_is_counted_again(cache):
    first = needs_of()
    (file,) = cache.iterdir()
    file.write_text('{"parameters": 1')
    assert needs_of() == first
    file.write_text("[]")
    assert needs_of() == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert needs_of().kind == "FLOPs"


def test_what_cannot_be_counted_never_stops_a_plan(monkeypatch):
    def refuse(run):
        raise RuntimeError("depends on\nvalues")

    monkeypatch.setattr(flops, "count_step", refuse)
    found = needs_of()
    assert found.basis == "unknown: it can't be counted (RuntimeError: depends on values)"
    assert (found.minutes, found.gpu_memory_bytes, found.disk_bytes) == (None, None, None)


def test_zero_shot_is_counted_without_training():
    found = needs_of(ZERO_SHOT)
    assert found.minutes and found.state_bytes == 0
    assert found.micro_batch == 1


def test_the_grids_that_come_with_the_program_are_counted_already():
    for name in plan.grid_names():
        runs = [run for run in plan.make(plan.load_grid(name), "d").runs if run.backbone != "classical"]
        missing = {f"{run.backbone} × {run.strategy}" for run in runs if flops.cached_step_cost(run) is None}
        assert missing == set(), "registry/ has changed: run `make counts`"


def test_what_is_shipped_is_what_counting_gives():
    runs = plan.make(plan.load_grid("quick"), "d").runs
    run = next(run for run in runs if (run.backbone, run.strategy) == ("sam_nano", "lora_qv"))
    shipped = flops.cached_step_cost(run)
    assert shipped == flops.count_step(run)
