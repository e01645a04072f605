"""Ratios of times."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any


def ratio(results: Mapping[str, Any], name: str, other: str) -> float | None:
    """Of the medians of all runs; None where one of the two has none."""
    ours, theirs = (results.get(each, {}).get("seconds") for each in (name, other))
    return statistics.median(ours) / statistics.median(theirs) if ours and theirs else None
