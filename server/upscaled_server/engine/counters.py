"""Counters of what went wrong on the device, overcome or not. They live in the worker process, which tells
the server with its next answer."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal, TypeAlias

Event: TypeAlias = Literal["out_of_memory", "nan_fallbacks"]
"""Memory did not suffice for what was to be computed; results were not finite."""

_counts = Counter[str]()
_lock = threading.Lock()


def count(event: Event) -> None:
    """It happened once more. From any thread."""
    with _lock:
        _counts[event] += 1


def take() -> dict[str, int]:
    """How often each happened since the last call; empty where nothing did."""
    if not _counts:
        return {}
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    return taken
