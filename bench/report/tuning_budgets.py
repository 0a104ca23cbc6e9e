"""Budgets of tuning: encoder rates that were tried for each row, and marks where they are unequal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.report.strata import listed
from bench.units import plural
from registry import strategies

MARK = "¶"
NAMES = ("train.encoder_lr", "train.tune", "train.tune_epochs", "train.tune_fold")


@dataclass(frozen=True)
class Budget:
    """Rates that were tried for the encoder of a row.

    Attributes:
        count: number of rates tried on validation images; 0 where none was.
        epochs: of each trial.
        own_fold: each fold tried them for itself.
        by_hand: the rate is neither tried nor the strategy's own: nobody knows how many were tried before it.
    """

    count: int = 0
    epochs: int = 0
    own_fold: bool = False
    by_hand: bool = False

    @property
    def text(self) -> str:
        """The budget as the end of a sentence that begins with a row's name."""
        if self.count:
            where = " on each fold" if self.own_fold else ""
            return f"tried {self.count} encoder rates ({plural(self.epochs, 'epoch')} each{where})"
        return "had an encoder rate set by hand" if self.by_hand else "took the strategy's own encoder rate, untuned"


def of_rows(rows: pd.DataFrame) -> list[Budget | None]:
    """Return the budget of each row, or run; None where there is no rate to tune, or none was recorded.

    A strategy that freezes the encoder has nothing to tune, which makes no comparison with it unequal: the decoder's
    rate is the same for all strategies, tuned for none.

    Args:
        rows: of a leaderboard, or records, with the columns of settings.
    """
    columns = [rows[name] if name in rows else pd.Series(None, rows.index, dtype=object) for name in NAMES]
    return [_budget(*values) for values in zip(rows["strategy"], *columns, strict=True)]


def _budget(
    strategy: str, rate: float | None, count: float | None, epochs: float | None, fold: object
) -> Budget | None:
    if pd.isna(rate):
        return None
    if count and not pd.isna(count):
        return Budget(int(count), int(epochs or 0), own_fold=fold == "own")
    if strategy not in strategies.names():  # a plug-in that is not loaded here
        return Budget()
    return Budget(by_hand=rate != strategies.get(strategy).encoder_lr)


def marked(rows: pd.DataFrame) -> list[bool]:
    """Return which rows had another budget than the largest one among them.

    Without any tuned row, that is the strategies' own rates: rows whose rate was set by hand are marked.
    """
    budgets = of_rows(rows)
    known = [budget for budget in budgets if budget is not None]
    if not known:
        return [False] * len(rows)
    largest = max(known, key=lambda budget: (budget.count, budget.epochs, budget.own_fold, not budget.by_hand))
    return [budget is not None and budget != largest for budget in budgets]


def notes(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return notes on unequal budgets, and on the rates that tuning chose; none where nothing was tuned or set.

    Args:
        rows: of a section, with the column ``unequal_tuning`` (see `marked`).
        names: of the rows, as the table shows them.
    """
    sentences = []
    if rows["unequal_tuning"].any():
        by_budget: dict[Budget, list[str]] = {}
        for name, budget in zip(names, of_rows(rows), strict=True):
            if budget is not None:
                by_budget.setdefault(budget, []).append(name)
        texts = [f"{listed(own)} {budget.text}" for budget, own in by_budget.items()]
        sentences.append(
            f"{MARK} Unequal tuning: {'; '.join(texts)}. Part of a difference may be that of the budgets; "
            "`bench run --tune N` gives all of them the same one."
        )
    chosen = rows["tuned_rates"] if "tuned_rates" in rows else pd.Series("", rows.index)
    texts = [f"{name} {text}" for name, text in zip(names, chosen, strict=True) if text]
    if texts:
        sentence = f"Encoder rates that tuning chose: {'; '.join(texts)}. GPU hours contain the trials, counted once."
        if any(budget is not None and budget.count and not budget.own_fold for budget in of_rows(rows)):
            sentence += (
                " One fold chose for all, so that this single number has seen images on which the other folds are "
                "tested (train.tune_fold=own avoids it)."
            )
        sentences.append(sentence)
    return sentences


def method_note(names: Sequence[str], runs: Sequence[pd.DataFrame]) -> str:
    """Return a sentence where methods that are compared had unequal budgets; else an empty text.

    Args:
        names: of the methods.
        runs: records of each.
    """
    budgets = {
        name: {budget for budget in of_rows(own) if budget is not None} for name, own in zip(names, runs, strict=True)
    }
    known = {name: own for name, own in budgets.items() if own}
    if len({frozenset(own) for own in known.values()}) < 2:
        return ""
    texts = [f"{name} {' or '.join(sorted(budget.text for budget in own))}" for name, own in known.items()]
    return f"{MARK} Unequal tuning: {'; '.join(texts)}. Part of the difference may be that of the budgets."
