"""How long each stage of one image was at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from upscaled_server.pipeline.events import Stage
from upscaled_server.telemetry import tracing
from upscaled_server.telemetry.tracing import Activity, Span


class StageClock:
    """Adds up wall time per stage. Stages overlap, so the sum may exceed `total`.

    A context: at its end the spans of the stages end, which are parts of what is current at its making.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: dict[Stage, float] = {}
        self._parent = tracing.current()
        self._activities: dict[Stage, Activity] = {}

    def __enter__(self) -> StageClock:
        return self

    def __exit__(self, *_: object) -> None:
        for activity in self._activities.values():
            activity.end()

    def span(self, stage: Stage) -> Span:
        """The span of a stage, which begins now unless it has begun."""
        return self._activity(stage).begin()

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self.add(stage, ended - began)
            self._activity(stage).turn(began, ended)

    def add(self, stage: Stage, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def _activity(self, stage: Stage) -> Activity:
        activity = self._activities.get(stage)
        if activity is None:
            activity = self._activities[stage] = Activity(stage.value, self._parent)
        return activity

    @property
    def total(self) -> float:
        return time.monotonic() - self._began

    @property
    def seconds(self) -> dict[Stage, float]:
        """Seconds of every stage that took part, in the order of the image's way."""
        return {stage: self._seconds[stage] for stage in Stage if stage in self._seconds}
