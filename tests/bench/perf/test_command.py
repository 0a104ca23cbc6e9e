"""`bench perf` on SAM nano: what it prints, writes and keeps, on a quiet and on a busy machine."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from bench import fast_paths
from bench.cli import app
from bench.estimate import flops, step_measurements
from bench.estimate.resources import StepCost
from bench.perf import command, peaks, subject, trial
from bench.slurm.profile import ClusterProfile
from bench.training import load

CPU = torch.device("cpu")
PEAKS = peaks.Peaks(10**11, 10**10, "float32")
COST = StepCost(
    parameters=5 * 10**6,
    trainable=10**6,
    train_flops=10**9,
    infer_flops=4 * 10**8,
    fixed_bytes=0,
    image_bytes=10**6,
    encoder_flops=3 * 10**8,
    decoder_bytes=10**5,
)
SETTINGS = ["image_size=64", "train.batch_size=4"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(flops, "cached_step_cost", lambda run: COST)
    monkeypatch.setattr(peaks, "measure_peaks", lambda *_: PEAKS)
    monkeypatch.setattr(subject, "IMAGE_SIDE", 64)
    monkeypatch.setattr(subject, "NUCLEI", 3)


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(load, "disturbance", lambda _: [])
    monkeypatch.setattr(load.Interval, "load", lambda _: {"others": 0.0, "own": 1.0})


def call(*arguments: str):
    settings = [part for text in SETTINGS for part in ("--set", text)]
    return CliRunner().invoke(app, ["perf", *arguments, *settings, "--device", "cpu", "--rounds", "1"])


@pytest.mark.usefixtures("quiet")
def test_numbers_are_shown_written_and_kept_for_plans(tmp_path):
    done = call("sam_nano", "lora_qv", "--json", str(tmp_path / "perf.json"), "-o", str(tmp_path / "perf.md"))
    assert done.exit_code == 0, done.output
    (one,) = json.loads((tmp_path / "perf.json").read_text())
    assert "bound by " in done.output and "0.1 TFLOP/s in float32" in done.output
    assert one["images"] == 1 and one["settings"]["micro_batch"] == 1
    assert set(one["ratios"]) >= {"all", "fused_optimizer"}
    assert set(one["prediction_ratios"]) >= {"all", "inference_form"}
    assert (one["trainable"], one["flops"]) == (COST.trainable, COST.train_flops)
    assert one["bytes_moved"] > 0
    (planned,) = subject.subjects("sam_nano", "lora_qv", assignments=SETTINGS, device=CPU)
    kept = step_measurements.find(planned.run, ClusterProfile(gpus=0), fast_paths.DEFAULT)
    assert kept is not None
    # The optimiser's step is shared by the four images of a batch.
    step = one["step"]
    assert kept.train_s_per_image == pytest.approx(sum(step.values()) - 0.75 * step["optimizer"])
    # One image of four says nothing of the micro-batch, and of the memory, of a run.
    assert (kept.predict_s, kept.micro_batch, kept.peak_bytes) == (one["predict_s"], None, None)


def test_a_busy_machine_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(load, "disturbance", lambda _: ["other processes take 90 % of the cores' time"])
    done = call("sam_nano", "lora_qv")
    assert "the machine is busy: other processes take 90 %" in str(done.exception)
    assert "or add --force" in str(done.exception)


def test_numbers_of_a_busy_machine_are_marked_and_not_kept(monkeypatch):
    monkeypatch.setattr(load, "disturbance", lambda _: ["other processes take 90 % of the cores' time"])
    monkeypatch.setattr(load.Interval, "load", lambda _: {"others": 0.0, "own": 1.0})  # a GPU's others are seen before
    done = call("sam_nano", "decoder_only", "--force")
    assert done.exit_code == 0
    assert "‡ other processes take 90 % of the cores' time: too long, not kept." in done.output
    assert "`bench plan` uses these numbers" not in done.output
    (planned,) = subject.subjects("sam_nano", "decoder_only", assignments=SETTINGS, device=CPU)
    assert step_measurements.find(planned.run, ClusterProfile(gpus=0), fast_paths.DEFAULT) is None


def test_processes_that_prepare_samples_do_not_make_the_machine_busy(monkeypatch):
    monkeypatch.setattr(load.Interval, "load", lambda _: {"others": 0.5, "own": 0.5})
    monkeypatch.setattr(trial, "n_cores", lambda: 4)
    interval = load.Interval(wall=time.perf_counter() - 10)  # 40 seconds of cores, of which 20 are not this process's
    assert trial._disturbance(interval, workers_s=19.0) == ()
    assert trial._disturbance(interval, workers_s=4.0) == ("other processes took 40 % of the cores' time",)


def test_batches_are_whole_whatever_their_size():
    for images, n_images in ((3, 6), (8, 8), (12, 12)):
        (one,) = subject.subjects("sam_nano", "lora_qv", assignments=SETTINGS, device=CPU, images=images)
        assert (one.images, len(one.parts.train)) == (images, n_images)


@pytest.mark.usefixtures("quiet")
def test_ctrl_c_keeps_what_was_measured(monkeypatch, tmp_path):
    (first, *_) = subject.subjects("sam_nano", "zero_shot", assignments=SETTINGS, device=CPU)
    known = trial.trial(first, device=CPU, peaks=PEAKS, used_paths=frozenset(), rounds=1)
    assert known.step is None and known.ratios == {}

    def stopped_at_the_second(subject, **_):
        if subject.run.strategy != "zero_shot":
            raise KeyboardInterrupt
        return known

    monkeypatch.setattr(trial, "trial", stopped_at_the_second)
    done = call("sam_nano", "-o", str(tmp_path / "perf.csv"))
    assert done.exit_code == command.STOPPED
    assert "Stopped; 1 model of 6 measured." in done.output
    assert len((tmp_path / "perf.csv").read_text().splitlines()) == 2


@pytest.mark.usefixtures("quiet")
def test_a_model_that_fails_is_named_and_the_others_are_measured(monkeypatch):
    def fails(subject, **_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trial, "trial", fails)
    done = call("sam_nano", "full")
    assert done.exit_code == 1
    assert "sam_nano × full: not measured, CUDA out of memory" in done.output


def test_cached_embeddings_are_given_to_the_decoder():
    (one,) = subject.subjects("sam_nano", "decoder_only", assignments=[*SETTINGS, "embeddings=cached"], device=CPU)
    measured = trial.trial(one, device=CPU, peaks=PEAKS, used_paths=frozenset(), rounds=1)
    plain = trial.trial(
        replace(one, run=replace(one.run, embeddings="computed")),
        device=CPU,
        peaks=PEAKS,
        used_paths=frozenset(),
        rounds=1,
    )
    assert (measured.flops, plain.flops) == (COST.train_flops - COST.encoder_flops, COST.train_flops)
    assert measured.bytes_moved < plain.bytes_moved
    assert measured.settings["embeddings"] == "cached"
