"""What a server holds and how it answers, every second of a soak."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.load_traffic import percentile
from tests.e2e.test_metrics import scraped
from tests.soak.levels import Levels

_EVERY_SECONDS = 1.0
_WINDOW_SECONDS = 10.0
_QUEUE = ("upscaled_images_open", "upscaled_images_waiting", "upscaled_jobs")

Point = tuple[float, float]


class Latencies:
    """The seconds that answers took, of the last ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[tuple[float, float]] = deque()

    def add(self, seconds: float) -> None:
        with self._lock:
            self._last.append((time.monotonic(), seconds))

    def percentiles(self, *shares: float) -> list[float]:
        with self._lock:
            while self._last and self._last[0][0] < time.monotonic() - _WINDOW_SECONDS:
                self._last.popleft()
            seconds = [each for _, each in self._last]
        return [percentile(seconds, share) for share in shares] if seconds else []


@dataclass(slots=True)
class Samples:
    """`requests`: how many had ended, at each moment. `series`: values by name, at the same moments, not a
    number where there was none."""

    seconds: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: float, requests: int, values: dict[str, float]) -> None:
        self.seconds.append(seconds)
        self.requests.append(requests)
        for name, value in values.items():
            self.series.setdefault(name, []).append(value)

    def slope(self, name: str, after: int) -> float:
        """How much a value grows with each request once `after` had ended: the line of least squares."""
        points = [(x, y) for x, y in zip(self.requests, self.series[name], strict=True) if x > after]
        return _slope(points)

    def thinned(self, most: int) -> dict[str, list[Point]]:
        """At most that many points of each series: the highest value of every span of equal length. Spans
        without any are left out."""
        step = max(1, -(-len(self.seconds) // most))
        found: dict[str, list[Point]] = {}
        for name, values in self.series.items():
            found[name] = []
            for at in range(0, len(values), step):
                known = [value for value in values[at : at + step] if not math.isnan(value)]
                if known:
                    found[name].append((round(self.seconds[at], 1), max(known)))
        return found


class Sampler:
    """Samples from the moment it is entered until it is left. `done`: how many requests have ended."""

    def __init__(
        self, pid: int, metrics: str, data: Path, latencies: Latencies, done: Callable[[], int]
    ) -> None:
        self._pid, self._metrics, self._data = pid, metrics, data
        self._latencies, self._done = latencies, done
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples = Samples()
        self.failure: Exception | None = None

    def __enter__(self) -> Samples:
        self._thread.start()
        return self.samples

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        began = time.monotonic()
        try:
            while not self._stop.wait(_EVERY_SECONDS):
                self.samples.add(time.monotonic() - began, self._done(), self._values())
        except Exception as error:
            self.failure = error

    def _values(self) -> dict[str, float]:
        levels = Levels.of(self._pid)
        p50, p95 = self._latencies.percentiles(0.5, 0.95) or (math.nan, math.nan)
        return {
            "server_rss_bytes": levels.server_rss_bytes,
            "tree_rss_bytes": levels.rss_bytes,
            "shared_memory_bytes": levels.shared_memory_bytes,
            "descriptors": levels.descriptors,
            "threads": levels.threads,
            "processes": levels.processes,
            "disk_bytes": disk_bytes(self._data),
            "queue_images_and_jobs": queue_depth(self._metrics),
            "latency_p50_seconds": round(p50, 4),
            "latency_p95_seconds": round(p95, 4),
        }


def queue_depth(metrics: str) -> float:
    """Images that have a place at a device or wait for one, and jobs that have not ended."""
    return sum(value for (name, _), value in scraped(metrics).items() if name in _QUEUE)


def disk_bytes(folder: Path) -> int:
    """Of all files below, as the disk counts them."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:  # deleted meanwhile
            continue
    return total


def _slope(points: Sequence[tuple[float, float]]) -> float:
    x = sum(each for each, _ in points) / len(points)
    y = sum(each for _, each in points) / len(points)
    spread = sum((each - x) ** 2 for each, _ in points)
    return sum((each - x) * (value - y) for each, value in points) / spread if spread else 0.0
