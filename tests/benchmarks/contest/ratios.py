"""Ratios of times that are near each other, on a machine that changes its speed.

Machines that are shared have a slow and a fast speed, for seconds to minutes each. A ratio of medians then
says which of the two had more of the slow runs. So the rate of a small product of matrices is taken right
before and after each run: it tells the runs during which the machine was at its full speed, whoever ran.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

# Of the rate that the best tenth of a case's products reach: below, something else had its part of the cores.
_FULL = 0.93
_FEWEST, _FEWEST_NEAR_ONE = 2, 5
ENOUGH = 9
"""Runs at full speed of those whose ratio is near one: with so many their median hardly changes any more."""


def ratio(results: Mapping[str, Any], name: str, other: str) -> float | None:
    """Of the medians of runs at full speed, where both have two of these, else of all; None where one has no
    runs."""
    fast = _ratio_at_full_speed(results, name, other, _FEWEST)
    if fast is not None:
        return fast
    ours, theirs = (results.get(each, {}).get("seconds") for each in (name, other))
    return statistics.median(ours) / statistics.median(theirs) if ours and theirs else None


def ratio_near_one(results: Mapping[str, Any], name: str, other: str) -> float | None:
    """Of the medians of runs at full speed. Where of either there are fewer than five, the median of the
    ratios of runs that came one behind the other, whatever the speed; None where these are not as many."""
    fast = _ratio_at_full_speed(results, name, other, _FEWEST_NEAR_ONE)
    if fast is not None:
        return fast
    ours, theirs = (results.get(each, {}).get("seconds") for each in (name, other))
    if not ours or not theirs or len(ours) != len(theirs):
        return None
    return statistics.median(mine / its for mine, its in zip(ours, theirs, strict=True))


def _ratio_at_full_speed(results: Mapping[str, Any], name: str, other: str, fewest: int) -> float | None:
    ours, theirs = (runs_at_full_speed(results, entrant) for entrant in (name, other))
    if min(len(ours), len(theirs)) < fewest:
        return None
    return statistics.median(ours) / statistics.median(theirs)


def runs_at_full_speed(results: Mapping[str, Any], name: str) -> list[float]:
    """Seconds of an entrant's runs before and after which the machine was at its full speed; none where its
    rate was not taken."""
    rates = [rate for each in results.values() for pair in each.get("machine_flops", ()) for rate in pair]
    if not rates:
        return []
    least = _FULL * sorted(rates)[int(0.9 * (len(rates) - 1))]
    result = results.get(name, {})
    pairs = zip(result.get("seconds", ()), result.get("machine_flops", ()), strict=True)
    return [seconds for seconds, rates in pairs if min(rates) >= least]
