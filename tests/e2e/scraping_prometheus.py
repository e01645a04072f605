"""A real Prometheus that scrapes one server every second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.prometheus_server import Prometheus, prometheus_server

_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: upscaled
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(frozen=True, slots=True)
class Scraper:
    prometheus: Prometheus

    def query(self, expr: str) -> dict[frozenset[tuple[str, str]], float]:
        """What an instant query finds now, by the labels but for those of the target."""
        target = {"job", "instance"}
        return {
            frozenset((name, value) for name, value in each["metric"].items() if name not in target): float(
                each["value"][1]
            )
            for each in self.prometheus.series(expr)
        }

    def value(self, expr: str) -> float:
        """Of a query that finds one series."""
        (value,) = self.query(expr).values()
        return value

    def wait_for(self, expr: str, wanted: float) -> None:
        """Until the one series has this value."""
        deadline = time.monotonic() + 60
        while (found := self.query(expr)) == {} or list(found.values()) != [wanted]:
            assert time.monotonic() < deadline, f"{expr}: {found}"
            time.sleep(0.3)


@contextmanager
def scraping_prometheus(folder: Path, target: str) -> Iterator[Scraper]:
    """It has seen the server. Skips the test where there is no Prometheus."""
    folder.mkdir()
    with prometheus_server(folder, _CONFIG.format(target=target)) as prometheus:
        scraper = Scraper(prometheus)
        scraper.wait_for("up", 1)
        yield scraper
