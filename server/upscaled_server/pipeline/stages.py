"""How long each stage of one image was at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from upscaled_server.pipeline.events import Stage


class StageClock:
    """Adds up wall time per stage. Stages overlap, so the sum may exceed `total`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: dict[Stage, float] = {}

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - began)

    def add(self, stage: Stage, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    @property
    def total(self) -> float:
        return time.monotonic() - self._began

    @property
    def seconds(self) -> dict[Stage, float]:
        """Seconds of every stage that took part, in the order of the image's way."""
        return {stage: self._seconds[stage] for stage in Stage if stage in self._seconds}
