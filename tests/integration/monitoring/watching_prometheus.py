"""A real Prometheus that holds ten minutes of every metric, made up, and evaluates the rules."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from declared_metrics import Declared, declared_metrics, label_values
from expressions import ALERTS, RULES
from tests.prometheus_server import Prometheus, prometheus_server

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


@contextmanager
def watching_prometheus(folder: Path) -> Iterator[Prometheus]:
    """Its rules are evaluated every second, so that nobody waits for them."""
    samples = folder / "samples.txt"
    samples.write_text("\n".join(_samples(time.time())) + "\n# EOF\n")
    data = str(folder / "data")
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(samples), data]
    subprocess.run(blocks, check=True, capture_output=True)
    for path in (RULES, ALERTS):
        text = yaml.safe_load(path.read_text())
        for group in text["groups"]:
            group["interval"] = "1s"
        (folder / path.name).write_text(yaml.safe_dump(text))
    with prometheus_server(folder, yaml.safe_dump({"rule_files": [RULES.name, ALERTS.name]})) as prometheus:
        yield prometheus


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
