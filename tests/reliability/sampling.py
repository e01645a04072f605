"""What a server takes of memory while something is done to it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from tests.soak.levels import Levels


class RssSampler:
    """Looks at the resident bytes of the server's own process while it is entered, and once at its end."""

    def __init__(self, pid: int, every_seconds: float = 0.25) -> None:
        self._pid = pid
        self._every = every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._began = time.monotonic()
        self.first_bytes = self.most_bytes = Levels.of(pid).server_rss_bytes
        self.series: list[tuple[float, float]] = []

    @property
    def growth_bytes(self) -> int:
        """The most, above what it was when this was made."""
        return self.most_bytes - self.first_bytes

    def __enter__(self) -> RssSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        over = False
        while not over:
            over = self._over.wait(self._every)
            rss = Levels.of(self._pid).server_rss_bytes
            self.most_bytes = max(self.most_bytes, rss)
            self.series.append((round(time.monotonic() - self._began, 2), float(rss)))
