"""Whether a device still works for a caller that wants nothing any more."""

from __future__ import annotations

import json
import time

from tests.e2e.metrics_page import scraped

_ALLOWED_SECONDS = 0.5
_LOOK_SECONDS = 1.5
_EVERY_SECONDS = 0.03


def device_seconds(metrics: str, caller: str) -> float:
    """Computed for a caller so far. `metrics`: the address of the server's port for them."""
    labels = json.dumps({"caller": caller})
    return scraped(metrics).get(("upscaled_caller_device_seconds_total", labels), 0.0)


def batches_after(metrics: str, caller: str, left: float) -> list[float]:
    """When batches for a caller ended, in seconds after `left`, a moment of `time.monotonic()` that is just
    over. What ends between two looks counts as one."""
    ended, before = list[float](), device_seconds(metrics, caller)
    while (now := time.monotonic() - left) < _LOOK_SECONDS:
        time.sleep(_EVERY_SECONDS)
        after = device_seconds(metrics, caller)
        if after > before:
            ended.append(now)
            before = after
    return ended


def too_many(ended: list[float]) -> bool:
    """Whether a batch ended later than half a second that was not the only one: the one that was being
    computed may take as long as it takes."""
    return len(ended) > 1 and ended[-1] > _ALLOWED_SECONDS
