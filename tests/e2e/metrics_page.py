"""What the port for probes and Prometheus answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def ask(address: str, path: str) -> tuple[int, str]:
    """Status and body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(address: str) -> dict[tuple[str, str], float]:
    """Values by name and labels, these as JSON."""
    status, text = ask(address, "/metrics")
    assert status == 200
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def summed(address: str) -> dict[str, float]:
    """Values by name, summed over all labels."""
    sums: dict[str, float] = {}
    for (name, _), value in scraped(address).items():
        sums[name] = sums.get(name, 0.0) + value
    return sums
