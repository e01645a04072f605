"""A real Prometheus that holds ten minutes of every metric, made up, and evaluates the rules."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from declared_metrics import Declared, declared_metrics, label_values
from expressions import ALERTS, RULES

_STEP_SECONDS, _STEPS = 15, 40
_SOME_BUCKETS = ("0.5", "5.0", "+Inf")
# For labels whose values are open. Of closed ones a few are enough, if they are those that queries ask for.
_VALUES: dict[str, tuple[str, ...]] = {
    "version": ("1.0",),
    "model": ("real-esrgan-x4-plus",),
    "device": ("cpu", "cuda:0"),
    "caller": ("alice", "other"),
    "process": ("server", "worker", "codec"),
    "state": ("queued", "running", "succeeded"),
    "kind": ("job", "in", "out"),
    "service": ("upscaled.v1.Upscaler",),
    "method": ("Upscale", "UpscaleStream", "CreateJob"),
    "code": ("OK", "INTERNAL", "RESOURCE_EXHAUSTED"),
    "reason": ("OVERLOADED", "STORAGE_FULL", "NOT_FOUND"),
}


@dataclass(frozen=True, slots=True)
class Prometheus:
    address: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What an instant query finds now. Raises `HTTPError` for one that is refused."""
        found: list[dict[str, Any]] = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expr}))[
            "result"
        ]
        return found

    def get(self, path: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
        return found


@contextmanager
def running_prometheus(folder: Path) -> Iterator[Prometheus]:
    """Its rules are evaluated every second, so that nobody waits for them."""
    data = folder / "data"
    samples = folder / "samples.txt"
    samples.write_text("\n".join(_samples(time.time())) + "\n# EOF\n")
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(samples), str(data)]
    subprocess.run(blocks, check=True, capture_output=True)
    for path in (RULES, ALERTS):
        text = yaml.safe_load(path.read_text())
        for group in text["groups"]:
            group["interval"] = "1s"
        (folder / path.name).write_text(yaml.safe_dump(text))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({"rule_files": [RULES.name, ALERTS.name]}))
    address = f"127.0.0.1:{_free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(address)
        _wait_until_ready(prometheus, process, folder / "log")
        yield prometheus
    finally:
        process.terminate()
        process.wait(timeout=30)


def _samples(now: float) -> Iterator[str]:
    """OpenMetrics, family by family, with the labels that a scrape adds."""
    for name, declared in declared_metrics().items():
        family = name.removesuffix("_total") if declared.kind == "counter" else name
        family = family.removesuffix("_info") if declared.kind == "info" else family
        yield f"# TYPE {family} {declared.kind}"
        for labels in _labels(declared):
            yield from _series(name, declared.kind, labels, now)


def _labels(declared: Declared) -> Iterator[str]:
    closed = label_values()
    names = sorted(declared.labels)
    choices = [_VALUES.get(name) or sorted(closed[name]) for name in names]
    for values in itertools.product(*choices):
        pairs = zip((*names, "job", "instance"), (*values, "upscaled", "localhost:9464"), strict=True)
        yield ",".join(f'{name}="{value}"' for name, value in pairs)


def _series(name: str, kind: str, labels: str, now: float) -> Iterator[str]:
    """Counters grow by 3 with every step, gauges stay at 2."""
    moments = [(now - _STEP_SECONDS * (_STEPS - step), step) for step in range(_STEPS + 1)]
    if kind != "histogram":
        for at, step in moments:
            yield f"{name}{{{labels}}} {3 * step if kind == 'counter' else 2} {at:.3f}"
        return
    for number, bound in enumerate(_SOME_BUCKETS, 1):
        for at, step in moments:
            yield f'{name}_bucket{{{labels},le="{bound}"}} {number * step} {at:.3f}'
    for suffix in ("count", "sum"):
        for at, step in moments:
            yield f"{name}_{suffix}{{{labels}}} {len(_SOME_BUCKETS) * step} {at:.3f}"


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            prometheus.query("1")
        except OSError:
            time.sleep(0.1)
        else:
            return


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
