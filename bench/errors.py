"""The exceptions a user may meet: each text says what was given, what is allowed, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class BenchError(Exception):
    """Base of the harness's own errors; shown without a traceback."""


class PlanError(BenchError):
    """Everything that is wrong with a plan, at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = [f"\n- {problem}" for problem in self.problems]
        super().__init__(problems[0] if len(listed) == 1 else f"{len(listed)} things are wrong:" + "".join(listed))


class FoldError(BenchError, ValueError):
    """Images that can't be assigned to folds as asked."""


class RecordError(BenchError):
    """A record that can't be read."""


class AuditError(BenchError):
    """What asks for a gradient, what receives one and what the optimiser holds are not the same."""


class DivergedError(BenchError):
    """The loss is no longer finite."""


class ClusterError(BenchError):
    """Jobs can't be submitted."""


class InterruptedRunError(BenchError):
    """A run that was asked to stop; its state is saved and the next `bench run` continues it."""


class SavedPlanError(BenchError):
    """A plan in the results folder that can't be read."""


class LedgerError(BenchError):
    """The ledger of submitted jobs can't be read, or can't be had."""


class PluginError(BenchError):
    """A file of a plug-in that can't be imported."""
