"""Choice among tried rates, and the files of trials."""

from __future__ import annotations

from bench.results import tuning
from bench.results.tuning import TrialResult


def tried(rate: float, pq: float, aji: float = 0.3) -> TrialResult:
    return TrialResult(rate, "ok", pq=pq, aji=aji, dice=0.8, seconds=2.0)


DIVERGED = TrialResult(1e-2, "diverged", reason="the loss became nan at step 2")


def test_best_pq_is_chosen_then_aji():
    assert tuning.best([tried(1e-4, 0.2), tried(1e-3, 0.4), DIVERGED], 1e-4) == tried(1e-3, 0.4)
    assert tuning.best([tried(1e-4, 0.4, 0.5), tried(1e-3, 0.4, 0.6)], 1e-4) == tried(1e-3, 0.4, 0.6)


def test_of_equal_scores_the_rate_nearest_to_the_centre_is_chosen_then_the_smaller():
    rates = (5e-5, 1.58e-4, 5e-4, 1.58e-3)
    assert tuning.best([tried(rate, 0.0) for rate in rates], 5e-4) == tried(5e-4, 0.0)
    without_centre = [tried(rate, 0.0) for rate in rates if rate != 5e-4]
    assert tuning.best(without_centre, 5e-4) == tried(1.58e-4, 0.0)


def test_nothing_is_chosen_where_every_trial_diverged():
    assert tuning.best([DIVERGED], 1e-2) is None


def test_a_result_is_read_as_it_was_written_and_a_damaged_one_counts_as_none(tmp_path):
    assert tuning.read_trial(tmp_path) is None
    for result in (tried(1e-4, 0.25), DIVERGED):
        tuning.write_trial(tmp_path, result)
        assert tuning.read_trial(tmp_path) == result
    for text in ('{"encoder_lr": 1', "[]", '{"encoder_lr": 1e-4, "unknown": 1}'):
        (tmp_path / tuning.TRIAL_FILENAME).write_text(text)
        assert tuning.read_trial(tmp_path) is None
