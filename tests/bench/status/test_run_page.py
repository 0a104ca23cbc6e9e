"""`bench status RUN`: one run's state, the course of its training, and its best epoch."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from every_state import Place, everything
from rich.console import Console

from bench.characters import shown_in
from bench.cli import main
from bench.errors import BenchError
from bench.results import history, record
from bench.status import run_page
from bench.status.sparkline import sparkline

PQ = [0.0, 0.1, 0.3, 0.2, 0.4, 0.4]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    place, _ = everything(tmp_path_factory.mktemp("results"))
    names = list(place.runs)
    for name in (names[0], names[24]):
        rows = [
            {
                "epoch": n,
                "step": 5 * n,
                "loss": 3.0 / n,
                "loss_bce": 1 / n,
                "lr": 0.1,
                "pq": pq,
                "aji": 0.5,
                "dice": 0.6,
            }
            for n, pq in enumerate(PQ, start=1)
        ]
        rows[2] |= {"pq": None, "aji": None, "dice": None}
        rows[-1] |= {"images_per_s": 12.34, "peak_bytes": 3 * 2**30}
        rows[-1] |= {"seconds": 90.0, "validation_seconds": 30.0, "post_processing_seconds": 6.0}
        history.write(record.folder(place.results, place.id(name)), rows)
    return place


def printed(place: Place, name: str, width: int = 80) -> list[str]:
    out = StringIO()
    run_page.show(run_page.read(place.results, name), Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_bars_are_scaled_from_the_lowest_to_the_highest_value():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 20) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, 1.0], 20) == "▁█"
    assert sparkline([0.5, 0.5, 0.5], 20) == "▄▄▄"
    assert sparkline([0.3], 20) == "▄"
    assert (sparkline([], 20), sparkline([1.0], 0)) == ("", "")


def test_of_more_values_than_bars_neighbours_are_averaged():
    assert sparkline([0, 0, 4, 4, 7, 9], 3) == "▁▅█"
    assert len(sparkline(list(range(1000)), 33)) == 33


def test_done_run_shows_its_course_and_best_epoch(place):
    name = next(iter(place.runs))
    run = place.runs[name]
    assert printed(place, name) == [
        f"{run.id}  {run.backbone} {run.strategy} fold 1, seed 0",
        "state   ✓ done · gpu-03",
        "epoch   6, 12.3 images/s, peak memory 3.0 GiB",
        "time    training 90 s, validation 30 s, post-processing 6 s",
        "loss    █▄▂▁▁▁  3.000 → 0.500 (lowest 0.500, highest 3.000)",
        "        bce 0.167",
        "PQ, %   ▁▃▅██  0.0 → 40.0 (lowest 0.0, highest 40.0)",
        "best    epoch 6: PQ 40.0, AJI 50.0, Dice 60.0 % (validation, before post-processing is chosen)",
        "test    PQ 45.0 %",
    ]


def test_second_training_has_a_line_of_its_own_below_the_loss_of_the_first(place):
    name = list(place.runs)[1]
    rows = [{"training": 1, "epoch": n, "step": n, "loss": 1 / n, "pq": 0.1, "aji": 0.1, "dice": 0.1} for n in (1, 2)]
    again = [{"training": 2, "epoch": n, "step": n, "loss": 0.8 / n} for n in (1, 2)]
    history.write(record.folder(place.results, place.id(name)), [*rows, *again])
    lines = printed(place, name)
    (first,) = (number for number, line in enumerate(lines) if line.startswith("loss "))
    assert lines[first] == "loss    █▁  1.000 → 0.500 (lowest 0.500, highest 1.000)"
    assert lines[first + 1] == "again   epoch 2, loss █▁  0.800 → 0.400 (lowest 0.400, highest 0.800)"
    assert any(line.startswith("epoch   2") for line in lines) and any("best    epoch 2" in line for line in lines)


def test_running_run_shows_its_phase_and_what_its_training_has_reached(place):
    lines = printed(place, list(place.runs)[24])
    assert lines[1].startswith("state   ▸ running · gpu-05 · job 40_0")
    assert lines[2] == "now     training, epoch 3 of 60, 15 min left"
    assert lines[-1].startswith("next: bench logs ")


def test_run_without_epochs_and_failed_run_say_so(place):
    names = list(place.runs)
    trained = next(name for name in names[30:44] if place.runs[name].train)
    assert "epochs  none yet" in printed(place, trained)
    failed = printed(place, names[21])
    assert any(line.startswith("why     diverged: the loss became nan at step 120") for line in failed)
    assert run_page.read(place.results, names[21]).exit_code == 1


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_sparklines_fit_the_terminal(place, width):
    run_id = place.id(list(place.runs)[1])
    rows = [{"epoch": n, "loss": 1.0 / n, "pq": n / 500} for n in range(1, 500)]
    history.write(record.folder(place.results, run_id), rows)
    (line,) = [line for line in printed(place, run_id, width) if line.startswith("PQ")]
    assert len(line) == max(width, 8 + 8 + 2 + len("0.2 → 99.8 (lowest 0.2, highest 99.8)"))


def test_terminal_without_unicode_and_colours_gets_a_ramp_of_ascii(place, capsysbinary, monkeypatch):
    assert shown_in("ascii", "▁▂▃▄▅▆▇█") == "_.-=+*%#"
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(
        "sys.argv", ["bench", "status", place.id(next(iter(place.runs))), "--results", str(place.results)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert b"\x1b" not in capsysbinary.readouterr().out


def test_damaged_history_is_named_and_the_rest_still_shown(place):
    name = list(place.runs)[2]
    path = record.folder(place.results, place.id(name)) / record.HISTORY_FILENAME
    path.write_bytes(b"torn")
    lines = printed(place, name)
    assert lines[1].startswith("state   ✓ done")
    assert any("history.parquet can't be read" in line for line in lines)
    assert run_page.read(place.results, name).exit_code == 1


def test_scores_that_are_nan_and_names_with_markup_do_no_harm(place):
    run_id = place.id(list(place.runs)[3])
    rows = [{"epoch": 1, "loss": float("nan"), "loss_[red]\x1b]0;<b>": 1.0, "pq": float("nan")}]
    history.write(record.folder(place.results, run_id), rows)
    lines = printed(place, run_id)
    assert "        [red]?]0;<b> 1.000" in lines and "PQ      not validated yet" in lines
    assert json.loads(run_page.as_json(run_page.read(place.results, run_id)))["history"][0]["pq"] is None


def test_json_holds_state_history_and_best_epoch(place):
    values = json.loads(run_page.as_json(run_page.read(place.results, next(iter(place.runs)))))
    assert (values["run"]["state"], values["best_epoch"], len(values["history"])) == ("done", 6, 6)
    assert values["history"][2]["pq"] is None and values["history"][1]["loss"] == 1.5


def test_unknown_run_and_options_for_all_runs_are_refused_in_words(place, monkeypatch, capsys):
    with pytest.raises(BenchError, match="no run 'nope'"):
        run_page.read(place.results, "nope")
    monkeypatch.setattr("sys.argv", ["bench", "status", "nope", "--full", "--results", str(place.results)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--grid and --full are about all runs of a folder" in " ".join(capsys.readouterr().err.split())
