"""Resources of runs: from records, from counted FLOPs, and without either."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabricated import record
from planned_run import CLASSICAL_RUN, GIB, RUN

from bench import fast_paths
from bench.estimate import estimator, flops, step_measurements
from bench.estimate.resources import Resources, StepCost, Workload, workload
from bench.results.measurement import HELD_SECONDS
from bench.slurm.profile import ClusterProfile, profile_for_device

PROFILE = ClusterProfile(gpu_tflops=100.0, utilisation=0.25, gpu_memory_gb=40)
ZERO_SHOT = replace(RUN, strategy="zero_shot", head="everything", options={}, train={})
COST = StepCost(
    parameters=100 * 10**6,
    trainable=10**6,
    train_flops=10**12,
    infer_flops=10**11,
    fixed_bytes=GIB,
    image_bytes=10 * GIB,
    encoder_flops=9 * 10**10,
    decoder_bytes=GIB,
)


@pytest.fixture(autouse=True)
def _counts(tmp_path, monkeypatch):
    """No count is stored, and counting gives `COST` at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(flops, "cached_step_cost", lambda run, **_: None)
    monkeypatch.setattr(flops, "count_step", lambda run, **_: COST)


def finished(run=RUN, provenance=None, **cost: object):
    values = {
        "device": "cuda",
        "memory_kind": "cuda",
        "train_seconds": 500.0,
        "validation_seconds": 50.0,
        "prediction_seconds": 20.0,
        "post_processing_seconds": 30.0,
        "gpu_seconds": 570.0,
        "train_peak_bytes": 8 * GIB,
        "micro_batch": 8,
        "inference_peak_bytes": 2 * GIB,
        "parameters_trainable": 1000,
        "adapter_bytes": 4000,
        "train_steps": 80,
    }
    measured = record(run.as_dict(), cost={**values, **cost})
    return replace(measured, provenance={**(measured.provenance or {}), **(provenance or {})})


def estimate(run=RUN, records=(), profile=PROFILE, n_images=100, **options) -> Resources:
    return estimator.estimate_resources([run], records=records, profile=profile, n_images=n_images, **options)[run.id]


def test_runs_of_other_folds_and_seeds_are_measurements_of_the_same_kind():
    records = [
        finished(replace(RUN, fold=2)),
        finished(replace(RUN, fold=3, seed=7), train_seconds=1100.0, train_peak_bytes=9 * GIB),
        record(replace(RUN, fold=4).as_dict(), status="failed", reason="error: something"),
    ]
    resources = estimate(records=records)
    assert (resources.basis, resources.details) == ("measured", "2 runs on NVIDIA A100")
    assert resources.minutes == 15
    assert resources.gpu_memory_bytes == 9 * GIB + GIB // 2
    assert (resources.disk_bytes, resources.state_bytes) == (1_404_000, 32_000)
    assert (resources.factor, resources.micro_batch) == (1.5, 8)


def test_a_gpu_name_with_a_colon_does_not_change_the_basis():
    """The basis was once the text up to the first colon or " at "."""
    resources = estimate(records=[finished(provenance={"gpu": "Vendor: card at 300 W"})])
    assert (resources.basis, resources.details) == ("measured", "1 run on Vendor: card at 300 W")


def test_runs_of_other_length_are_scaled_by_the_number_of_trained_inputs():
    longer = replace(RUN, train={**RUN.train, "epochs": 20})
    resources = estimate(longer, [finished()])  # 80 steps of 8 in 10 minutes; here 64 images, 20 times
    assert resources.minutes == 20
    assert (resources.basis, resources.details) == ("scaled", "1 run of other length or batch on NVIDIA A100")


def test_memory_is_scaled_by_the_batch_size():
    resources = estimate(replace(RUN, train={**RUN.train, "batch_size": 16}), [finished()])
    assert resources.gpu_memory_bytes == 2 * (8 * GIB + GIB // 2)
    assert resources.micro_batch == 16


@pytest.mark.parametrize("change", [{"options": {"rank": 8}}, {"image_size": 128}, {"strategy": "adapter"}])
def test_runs_of_other_models_are_no_measurements(change):
    assert estimate(records=[finished(replace(RUN, **change))]).basis == "counted"


@pytest.mark.parametrize(
    ("provenance", "cost"), [({"runs_at_once": 2}, {}), ({}, dict.fromkeys((*HELD_SECONDS, "gpu_seconds")))]
)
def test_runs_that_shared_their_gpu_are_no_measurements(provenance, cost):
    assert estimate(records=[finished(provenance=provenance, **cost)]).basis == "counted"


def test_records_from_before_a_setting_existed_are_of_the_same_kind():
    older = finished(replace(RUN, fold=2))
    run = {key: value for key, value in older.run.items() if key not in ("neutral_options",)}
    newer = replace(RUN, neutral_options={"rank": 4})
    assert estimate(newer, [replace(older, run={**run, "options": {}})]).basis == "measured"


def test_runs_on_a_cpu_are_no_measurements_for_a_gpu_nor_the_other_way_round():
    on_cpu = finished(device="cpu", memory_kind="rss", gpu_seconds=None, train_seconds=20.0)
    assert estimate(records=[on_cpu]).basis == "counted"
    without_gpu = replace(PROFILE, gpus=0)
    resources = estimate(records=[on_cpu], profile=without_gpu)
    assert (resources.minutes, resources.gpu_memory_bytes) == (2, None)
    unmeasured = estimate(records=[finished()], profile=without_gpu)
    assert (unmeasured.basis, unmeasured.details) == ("unknown", "no run of this kind was measured on a CPU")


def test_device_cpu_uses_no_gpu_measurements_and_counts_nothing(monkeypatch):
    monkeypatch.setattr(flops, "count_step", None)
    assert estimate(records=[finished()], profile=profile_for_device(PROFILE, "cpu")).basis == "unknown"


def test_the_classical_pipeline_takes_no_gpu():
    resources = estimate(CLASSICAL_RUN)
    assert (resources.minutes, resources.gpu_memory_bytes, resources.basis) == (20 * 0.4 / 60, 0, "no_gpu")


def test_minutes_and_memory_from_counts_by_hand():
    amount = Workload(trained=1000, predicted=500, post_processed=100, tested=20)
    resources = estimator.resources_from_step_cost(RUN, COST, PROFILE, amount, frozenset())
    # (1000 × 1 + 500 × 0.1) TFLOP at a quarter of 100 TFLOP/s, and 100 × 40 ms.
    assert resources.minutes == pytest.approx((1050 / 25 + 4) / 60)
    # 8 images take more than 81 GiB; 40 GiB hold 2: weights, gradients and moments, copies, images, CUDA.
    assert resources.micro_batch == 2
    assert resources.gpu_memory_bytes == 400 * 10**6 + 12 * 10**6 + GIB + 20 * GIB + GIB // 2
    whole = replace(RUN, train={**RUN.train, "batchnorm": "trained"})  # never divided
    resources = estimator.resources_from_step_cost(whole, COST, PROFILE, amount, frozenset())
    assert (resources.micro_batch, resources.smallest_micro_batch) == (8, 8)
    assert resources.gpu_memory_bytes == 400 * 10**6 + 12 * 10**6 + GIB + 80 * GIB + GIB // 2
    assert (resources.disk_bytes, resources.state_bytes) == (4 * 10**6 + 1_400_000, 32 * 10**6)
    assert (resources.basis, resources.details) == ("counted", "25 % of 100 TFLOP/s")
    assert resources.factor == 3


def test_progress_is_reported_for_models_without_a_stored_count(monkeypatch):
    other = replace(RUN, strategy="adapter", options={})
    stored = replace(RUN, strategy="full", options={})
    monkeypatch.setattr(flops, "cached_step_cost", lambda run, **_: COST if run == stored else None)
    calls = []
    estimator.estimate_resources(
        [RUN, stored, other], records=[], profile=PROFILE, n_images=100, progress=lambda *values: calls.append(values)
    )
    assert calls == [("sam_nano × lora_qv", 0, 2), ("sam_nano × adapter", 1, 2)]


def test_a_model_that_cannot_be_counted_is_unknown(monkeypatch):
    def refuse(run, **_):
        raise RuntimeError("depends on\nvalues")

    monkeypatch.setattr(flops, "count_step", refuse)
    resources = estimate()
    assert resources.basis == "unknown"
    assert resources.details == "it can't be counted (RuntimeError: depends on values)"
    assert (resources.minutes, resources.gpu_memory_bytes, resources.disk_bytes) == (None, None, None)


def test_zero_shot_takes_no_training_state(monkeypatch):
    monkeypatch.setattr(flops, "count_step", lambda run, **_: replace(COST, trainable=0, train_flops=0))
    resources = estimate(ZERO_SHOT)
    assert resources.minutes and resources.state_bytes == 0
    assert resources.micro_batch == 1


AMOUNT = Workload(trained=1000, predicted=500, post_processed=100, tested=20, encoded=50)


def test_post_processing_beside_predictions_takes_no_time_of_its_own():
    used = frozenset({"overlap"})
    beside = estimator.resources_from_step_cost(RUN, COST, PROFILE, AMOUNT, used)
    # The GPU predicts for 2 s and encodes for 0.18 s; 7 of 8 cores share 4 s.
    assert beside.minutes == pytest.approx((1000 / 25 + 2 + 0.18) / 60)
    alone = estimator.resources_from_step_cost(RUN, COST, replace(PROFILE, cpus_per_gpu=1), AMOUNT, used)
    assert alone.minutes == pytest.approx((1000 / 25 + 2 + 0.18 + 4) / 60)


def test_cached_embeddings_leave_the_decoder_and_one_encoding_of_each_variant():
    cached = replace(RUN, strategy="decoder_only", embeddings="cached", options={})
    resources = estimator.resources_from_step_cost(cached, COST, PROFILE, AMOUNT, frozenset())
    # 1000 × (1 − 0.09), 500 × (0.1 − 0.09) and 50 × 0.09 TFLOP at 25 TFLOP/s, and 100 × 40 ms.
    assert resources.minutes == pytest.approx((910 / 25 + 5 / 25 + 4.5 / 25 + 4) / 60)
    assert resources.micro_batch == 8
    assert resources.cache_bytes == 50 * 256 * (64 // 16) ** 2 * 2


def test_blocks_are_computed_again_only_where_one_image_does_not_fit(monkeypatch):
    again = replace(COST, train_flops=13 * 10**11, image_bytes=GIB)
    monkeypatch.setattr(flops, "count_step", lambda run, *, recomputed: again if recomputed else COST)
    small = replace(PROFILE, gpu_memory_gb=8)
    for profile, memory, expected in (
        (PROFILE, "auto", (2, False)),
        (small, "auto", (1, True)),
        (small, "full", (1, False)),
        (PROFILE, "checkpoint", (8, True)),
    ):
        run = replace(RUN, train={**RUN.train, "memory": memory})
        resources = estimate(run, profile=profile)
        assert (resources.micro_batch, resources.is_recomputed) == expected
    frozen = replace(RUN, strategy="decoder_only", options={}, train={**RUN.train, "memory": "checkpoint"})
    assert not estimate(frozen).is_recomputed


MEASURED = step_measurements.StepMeasurement(
    device="NVIDIA A100-SXM4-40GB",
    kind="cuda",
    train_s_per_image=0.5,
    predict_s=0.1,
    encode_s=0.08,
    post_processing_s=0.7,
    micro_batch=4,
    peak_bytes=GIB,
    trainable=1000,
    measured="2026-01-01T00:00:00+00:00",
)


def test_steps_that_bench_perf_measured_come_before_counts_and_after_records():
    step_measurements.keep(replace(RUN, fold=3, seed=7), fast_paths.DEFAULT, MEASURED)
    resources = estimate(profile=replace(PROFILE, gpu="a100"))
    amount = workload(RUN, 100)
    seconds = 0.5 * amount.trained + max(0.1 * amount.predicted, 0.7 * amount.post_processed / 7)
    assert resources.minutes == pytest.approx(seconds / 60)
    assert (resources.basis, resources.details, resources.factor) == ("perf", "NVIDIA A100-SXM4-40GB", 1.5)
    assert (resources.gpu_memory_bytes, resources.micro_batch) == (GIB + GIB // 2, 4)
    assert estimate(records=[finished()]).basis == "measured"


def test_steps_of_another_device_model_or_form_are_not_taken():
    step_measurements.keep(RUN, fast_paths.DEFAULT, MEASURED)
    assert estimate(profile=replace(PROFILE, gpu="h100")).basis == "counted"
    assert estimate(profile=replace(PROFILE, gpus=0)).basis == "unknown"
    assert estimate(profile=replace(PROFILE, gpu_memory_gb=1)).basis == "counted"  # more was in use
    assert estimate(replace(RUN, options={"rank": 8})).basis == "counted"
    assert estimate(replace(RUN, train={**RUN.train, "batch_size": 4})).basis == "counted"
    assert estimate(used_paths=frozenset()).basis == "counted"
    assert estimate(replace(RUN, train={**RUN.train, "epochs": 3})).basis == "perf"


def test_steps_of_this_processor_make_estimates_without_a_gpu_possible():
    on_cpu = replace(MEASURED, kind="cpu", device=step_measurements.cpu_name(2))
    step_measurements.keep(RUN, fast_paths.DEFAULT, on_cpu)
    resources = estimate(profile=replace(PROFILE, gpus=0))
    assert (resources.basis, resources.gpu_memory_bytes) == ("perf", None)
    amount = workload(RUN, 100)  # one after the other: there is no core that predictions leave free
    seconds = 0.5 * amount.trained + 0.1 * amount.predicted + 0.7 * amount.post_processed
    assert resources.minutes == pytest.approx(seconds / 60)
    step_measurements.keep(RUN, fast_paths.DEFAULT, replace(on_cpu, device="Another processor, 2 threads"))
    assert estimate(profile=replace(PROFILE, gpus=0)).details == on_cpu.device
