"""How many replicas are wanted, by the rule of Kubernetes' horizontal autoscaler, which KEDA drives too."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerSettings:
    """Seconds, where nothing else is said; the defaults are those of `deploy/kubernetes`, but for the
    maximum, which is 10 there.

    `queue_target`: device seconds of queue for each replica. `busy_target`: share of the time for which a
    device is at work; None: only the queue counts. Within `up_period_seconds` replicas are at most doubled,
    or `up_pods` are added, whichever is more. One is taken away when none of the answers of the last
    `calm_seconds` wanted it, and not more than one in `down_period_seconds`.
    """

    minimum: int = 2
    maximum: int = 20
    queue_target: float = 30.0
    busy_target: float | None = None
    sync_seconds: float = 15.0
    scrape_seconds: float = 15.0
    up_period_seconds: float = 60.0
    up_pods: int = 4
    calm_seconds: float = 300.0
    down_period_seconds: float = 60.0
    start_seconds: float = 60.0
    grace_seconds: float = 60.0


# Closer to its target than this, a metric changes nothing: Kubernetes' default.
_TOLERANCE = 0.1


class Scaler:
    """Asked every `sync_seconds`, with what the last scrape said."""

    def __init__(self, settings: ScalerSettings) -> None:
        self._settings = settings
        self._answers: deque[tuple[float, int]] = deque()
        self._added: deque[tuple[float, int]] = deque()
        self._down_at = -math.inf

    def wanted(self, now: float, replicas: int, queue_seconds: float, busy: float) -> int:
        """`queue_seconds` and `busy` are sums over all replicas; `replicas` counts those that start, too."""
        settings = self._settings
        answers = [_by(queue_seconds, settings.queue_target, replicas)]
        if settings.busy_target is not None:
            answers.append(_by(busy, settings.busy_target, replicas))
        answer = min(settings.maximum, max(settings.minimum, *answers))
        self._answers.append((now, answer))
        _forget(self._answers, now - settings.calm_seconds)
        if answer > replicas:
            return self._up(now, replicas, answer)
        if max(each for _, each in self._answers) >= replicas:
            return replicas
        if now - self._down_at < settings.down_period_seconds:
            return replicas
        self._down_at = now
        return replicas - 1

    def _up(self, now: float, replicas: int, answer: int) -> int:
        _forget(self._added, now - self._settings.up_period_seconds)
        before = replicas - sum(each for _, each in self._added)
        answer = max(replicas, min(answer, max(2 * before, before + self._settings.up_pods)))
        self._added.append((now, answer - replicas))
        return answer


def _by(total: float, target: float, replicas: int) -> int:
    if abs(total / (target * replicas) - 1) <= _TOLERANCE:
        return replicas
    return math.ceil(total / target)


def _forget(what: deque[tuple[float, int]], until: float) -> None:
    while what and what[0][0] <= until:
        what.popleft()
