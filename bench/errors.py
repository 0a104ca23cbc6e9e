"""Exceptions for users: each text says what was given, what is allowed, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class BenchError(Exception):
    """Base of the harness's own errors; shown without a traceback."""


class PlanError(BenchError):
    """Problems of a plan, all at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = [f"\n- {problem}" for problem in self.problems]
        super().__init__(problems[0] if len(listed) == 1 else f"{len(listed)} things are wrong:" + "".join(listed))


class FoldError(BenchError, ValueError):
    """Images that can't be assigned to the folds that are wanted."""


class RecordError(BenchError):
    """A record that can't be read."""


class AuditError(BenchError):
    """Mismatch of the parameters that require a gradient, receive one, and are held by the optimiser."""


class DivergedError(BenchError):
    """Loss or gradients that are no longer finite."""


class ClusterError(BenchError):
    """Jobs that can't be submitted."""


class InterruptedRunError(BenchError):
    """Run that stopped on a signal; its state is saved, and the next `bench run` continues it."""


class SavedPlanError(BenchError):
    """A plan in the results folder that can't be read."""


class OtherVersionError(BenchError):
    """A run that newer or older code planned, whose settings mean something else to this code, or nothing."""


class ResultsFolderError(BenchError):
    """A results folder that was moved or removed while runs went on."""


class LedgerError(BenchError):
    """Ledger of submitted jobs that can't be read or locked."""


class PluginError(BenchError):
    """A file of a plug-in that can't be imported, or an error in its code."""
