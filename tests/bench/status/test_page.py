from __future__ import annotations

import json
from io import StringIO

import pytest
from every_state import everything, planned, queue
from rich.console import Console

from bench.grid import Grid
from bench.planning import plan
from bench.results import plans
from bench.status import page, summary


def look(place, now=None):
    return summary.collect(
        place.results,
        saved_plans=plans.read_all(place.results),
        index=place.index(),
        ledger=place.ledger(),
        queue=now,
        final_states=lambda _: {},
    )


def printed(found, width=120, **values) -> list[str]:
    out = StringIO()
    page.show(found, Console(file=out, width=width), **values)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return look(*everything(tmp_path_factory.mktemp("results")))


def test_the_first_lines_count_the_runs_and_why_they_queue(full):
    lines = printed(full)
    assert lines[0] == f"default: 60 runs in {full.results}"
    assert lines[1] == (
        "✓ 21 done · ▸ 6 running · ≡ 16 queued · ○ 10 waiting · ‖ 1 interrupted · ⊘ 2 cancelled · ? 2 lost · ✗ 2 failed"
    )
    assert lines[2] == "16 queued: Resources 11, Priority 2, JobArrayTaskLimit 2, BeginTime (state saved) 1"


def test_each_backbone_and_strategy_has_a_row(full):
    lines = printed(full)
    head = lines.index(
        "backbone          strategy      done  running  queued  waiting  interrupted  cancelled  lost  failed  PQ, %"
    )
    # PQ of the fifth row's single fold: 0.45 + 20 / 200
    assert lines[head + 1].split() == ["mobile_sam", "zero_shot", "5/5", "46.0"]
    assert lines[head + 5].split() == ["efficient_sam_ti", "zero_shot", "1/5", "1", "1", "2", "55.0"]
    assert lines[head + 10].split() == ["sam_vit_h", "decoder_only", "0/5", "2", "2", "1"]


def test_narrow_terminals_get_symbols_and_no_broken_lines(full):
    lines = printed(full, 80)
    assert any(line.split() == ["backbone", "strategy", "done", *"▸≡○‖⊘?✗", "PQ,", "%"] for line in lines)
    assert lines[1:3] == [
        "✓ 21 done · ▸ 6 running · ≡ 16 queued · ○ 10 waiting · ‖ 1 interrupted",
        "⊘ 2 cancelled · ? 2 lost · ✗ 2 failed",
    ]
    sentences = ("default: 60 runs", "16 queued:", "failed: bench logs", "interrupted,", "done:")
    assert all(len(line) <= 80 for line in lines if not line.startswith(sentences))


def test_what_runs_is_shown_with_job_node_epoch_loss_speed_and_times(full):
    first = next(one for one in full.runs if one.state == "running")
    (line,) = [line for line in printed(full) if line.startswith(first.id[:8])]
    assert line.split("  ")[1:3] == ["efficient_sam_ti zero_shot ", ""] or "efficient_sam_ti zero_shot" in line
    assert line.endswith("5  40_0  gpu-05  training 3/60      0.812   12.5      15 min  1 h 00 min")
    assert any("evaluating 12/133" in line for line in printed(full))
    assert any("40_5  gpu-10  starting" in line for line in printed(full))


def test_failures_and_losses_are_told_in_one_line_each(full):
    lines = printed(full)
    failed = [one for one in full.runs if one.state == "failed"]
    name = "efficient_sam_ti zero_shot fold"
    assert [line for line in lines if line.startswith("✗ failed")] == [
        f"✗ failed  {failed[0].id[:8]}  {name} 2  diverged: the loss became nan at step 120 of 3990; the learning …",
        f"✗ failed  {failed[1].id[:8]}  {name} 3  out of memory: CUDA out of memory. Tried to allocate 2.5 GiB.",
    ]
    lost = [line for line in lines if line.startswith("? lost")]
    assert lost[0].endswith("sam_vit_h decoder_only fold 1      job 40_21: NODE_FAIL")
    assert lost[1].endswith("sam_vit_h lora_qv fold 1           its process is gone")


def test_the_last_lines_say_what_to_do(full):
    failed = next(one for one in full.runs if one.state == "failed")
    where = f" --results {full.results}"
    assert page.hints(full) == [
        f"failed: bench logs {failed.id[:8]}{where} tells why; bench retry --failed{where} does them again",
        f"interrupted, cancelled, lost: bench retry{where} goes on with them",
        "waiting: 1 of 10 to be tried again after a failure",
        f"done: bench table{where}",
    ]


def test_many_failures_are_capped_and_all_are_there_on_request(tmp_path):
    place = planned(tmp_path, ("mobile_sam", "sam_vit_h"), ("lora_qv", "full", "adapter"))
    for name in place.runs:
        place.fail(name, "KeyError: 'x'")
    lines = printed(look(place))
    assert sum(line.startswith("✗ failed  ") for line in lines) == 20
    assert "… and 10 more; --full shows them" in lines
    assert sum(line.startswith("✗ failed  ") for line in printed(look(place), full=True)) == 30


def test_a_large_study_shows_the_rows_that_are_not_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_ROWS", 2)
    place = planned(tmp_path, ("mobile_sam", "sam_vit_h"), ("lora_qv", "full"))
    for fold in range(1, 6):
        place.finish(f"sam_vit_h/full/{fold}")
    lines = printed(look(place))
    assert "… rows not shown: 1 complete, 1 other; --full shows them" in lines
    assert sum("0/5" in line for line in lines) == 2 and not any("5/5" in line for line in lines)


def test_swept_settings_have_rows_of_their_own(tmp_path):
    grid = Grid("ranks", ("mobile_sam",), ("lora_qv", "full"), classical=False, sweep={"strategy.rank": (4, 16)})
    place = planned(tmp_path, ("mobile_sam",), ("lora_qv",), runs=plan.make(grid, "0123456789abcdef").runs)
    place.finish("mobile_sam/lora_qv/1", pq=0.25)  # of rank 4, the default
    assert [line.split() for line in printed(look(place)) if line.startswith("mobile_sam")] == [
        ["mobile_sam", "lora_qv", "rank=4", "1/5", "4", "25.0"],
        ["mobile_sam", "lora_qv", "rank=16", "0/5", "5"],
        ["mobile_sam", "full", "0/5", "5"],
    ]


def test_skipped_pairs_say_why_once(tmp_path):
    place = planned(tmp_path, ("sam_nano",), ("lora_qv",))
    lines = printed(look(place))
    assert lines[1] == "– 5 skipped"
    why = "sam_nano has no official checkpoint; it runs with --set weights=random only"
    assert [line for line in lines if line.startswith("skipped")] == [f"skipped sam_nano × lora_qv: {why}"]


def test_a_row_whose_other_folds_hold_no_images_is_done(tmp_path):
    grid = Grid("part", ("mobile_sam",), ("lora_qv", "full"), classical=False)
    whole = plan.make(grid, "0123456789abcdef")
    empty = tuple((run, "no image of the official fold 5 is in spleen") for run in whole.runs if run.fold == 5)
    runs = tuple(run for run in whole.runs if run.fold < 5)
    place = planned(tmp_path, ("mobile_sam",), ("lora_qv",), runs=runs, skipped=empty)
    for fold in range(1, 5):
        place.finish(f"mobile_sam/lora_qv/{fold}", pq=0.25)
    lines = printed(look(place))
    assert [line.split() for line in lines if line.startswith("mobile_sam")] == [
        ["mobile_sam", "lora_qv", "4/4", "1", "25.0"],
        ["mobile_sam", "full", "0/4", "4", "1"],
    ]
    assert "skipped 2 pairs: no image of the official fold 5 is in spleen" in lines


def test_while_slurm_is_silent_the_page_says_so_once(tmp_path):
    place = planned(tmp_path, ("mobile_sam",), ("lora_qv",))
    place.submit("7", ("mobile_sam/lora_qv/1",))
    assert printed(look(place, None)).count("SLURM does not answer: what it had last is shown as queued.") == 1
    assert not any("SLURM" in line for line in printed(look(place, queue(("7", "PENDING", "Priority")))))


def test_an_empty_folder_says_what_to_do(tmp_path):
    assert printed(summary.read(tmp_path)) == [f"No runs in {tmp_path} yet. Next: bench run --grid quick"]


def test_colours_are_only_an_addition(full, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = StringIO()
    page.show(full, Console(file=out, width=120, force_terminal=True, color_system="standard"))
    assert "\x1b[32m✓ 21 done" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = StringIO()
    page.show(full, Console(file=out, width=120, force_terminal=True, color_system="standard"))
    assert "\x1b[32m" not in out.getvalue() and "✓ 21 done" in out.getvalue()


def test_the_status_for_programs(full):
    told = json.loads(page.as_json(full))
    assert told["counts"]["running"] == 6 and told["slurm_answers"] is True and told["unplanned"] == 0
    (first,) = [one for one in told["runs"] if one["job"] == "40_0"]
    assert first["state"] == "running" and first["progress"]["epoch"] == 3 and first["job_left_s"] == 3600.0
    assert first["run"]["image_size"] == 1024 and first["detail"] is None
    assert len(told["runs"]) == 60 and told["results"] == str(full.results)


def test_failures_of_the_environment_need_no_flag_to_be_tried_again(tmp_path):
    place = planned(tmp_path, ("mobile_sam",), ("lora_qv",))
    names = list(place.runs)
    place.fail(names[0], "environment: checkpoint of mobile_sam: missing")
    hint = page.hints(look(place))[0]
    assert "tells why; bench retry" in hint and "--failed" not in hint
    place.fail(names[1], "KeyError: 'x'")
    assert "bench retry --failed" in page.hints(look(place))[0]
