"""Post-processing parameters of a head: given values, completed by the defaults."""

from __future__ import annotations

from collections.abc import Mapping

from registry.errors import StrategyError, unknown


def complete(head: str, defaults: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Return the defaults, replaced by given values.

    Raises:
        StrategyError: a name that the head does not have; the nearest name is shown.
    """
    for key in given:
        if key not in defaults:
            raise StrategyError(unknown(f"parameter of head {head!r}", key, defaults))
    return {**defaults, **given}
