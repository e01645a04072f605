"""Every metric of the server, as a literal. Base units; labels are bounded by the contract and the catalogue.

What happens is counted where it happens (`RPCS`, `STAGES`, …). What is so at a moment is asked for at each
scrape: `SNAPSHOT` lists those, and `app.py` gives the function that answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

REGISTRY: Final = CollectorRegistry(auto_describe=True)

BUILD: Final = Info("upscaled_build", "Version of the server.", registry=REGISTRY)

RPCS: Final = Histogram(
    "upscaled_rpc_duration_seconds",
    "Duration of a call, by method and status; its count is the number of calls.",
    ("service", "method", "code"),
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
    registry=REGISTRY,
)
RPCS_RUNNING: Final = Gauge(
    "upscaled_rpc_in_flight", "Calls being answered now.", ("service", "method"), registry=REGISTRY
)
STAGES: Final = Histogram(
    "upscaled_stage_duration_seconds",
    "Seconds for which a stage was at work for one image that was delivered. Stages overlap.",
    ("stage",),
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
    registry=REGISTRY,
)
IMAGES: Final = Counter(
    "upscaled_images_delivered", "Images delivered whole, in calls and jobs.", ("model",), registry=REGISTRY
)
OUTPUT_PIXELS: Final = Counter(
    "upscaled_output_pixels_delivered", "Pixels of the images delivered.", ("model",), registry=REGISTRY
)

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
# Name: kind, what it says, the names of its labels.
SNAPSHOT: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "upscaled_queue_units": (GAUGE, "Units of device work that wait, of all open images.", ()),
    "upscaled_queue_device_seconds": (GAUGE, "Device seconds of admitted work that is not done.", ()),
    "upscaled_images_open": (GAUGE, "Images that have a place at a device.", ()),
    "upscaled_images_waiting": (GAUGE, "Images that wait for a place at a device.", ()),
    "upscaled_device_ready": (GAUGE, "1 if the device's worker takes work.", ("device",)),
    "upscaled_worker_restarts": (COUNTER, "Workers that were started in place of one that ended.", ()),
    "upscaled_jobs": (GAUGE, "Jobs that have not ended.", ("state",)),
    "upscaled_expired": (COUNTER, "Jobs, inputs and outputs whose time was over, and deleted.", ("kind",)),
    "upscaled_janitor_failures": (COUNTER, "Expired things that could not be deleted at a first try.", ()),
    "upscaled_janitor_late_seconds": (GAUGE, "By how much the last deleted thing had been due.", ()),
    "upscaled_callbacks": (COUNTER, "Tries to tell a receiver of a job's end.", ("outcome",)),
    "upscaled_callbacks_pending": (GAUGE, "Callbacks that are still to be delivered.", ()),
    "upscaled_stored_bytes": (GAUGE, "Bytes of inputs, outputs and tiles that are kept.", ()),
}

Values: TypeAlias = Mapping[str, float | Mapping[str, float]]
"""By the names of `SNAPSHOT`: a number, or numbers by the value of the one label."""


class SnapshotCollector:
    """Asks at each scrape."""

    def __init__(self, ask: Callable[[], Values]) -> None:
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        return [self._family(name) for name in SNAPSHOT]

    def collect(self) -> Iterable[Metric]:
        values = self._ask()
        for name in SNAPSHOT:
            family = self._family(name)
            value = values[name]
            for label, number in value.items() if isinstance(value, Mapping) else (("", value),):
                family.add_metric([label] if isinstance(value, Mapping) else [], number)
            yield family

    def _family(self, name: str) -> GaugeMetricFamily | CounterMetricFamily:
        kind, said, labels = SNAPSHOT[name]
        family = GaugeMetricFamily if kind == GAUGE else CounterMetricFamily
        return family(name, said, labels=labels)


def note_image(model: str, pixels: int, seconds: Iterable[tuple[str, float]]) -> None:
    """An image was delivered: `pixels` of output, `seconds` by stage."""
    IMAGES.labels(model).inc()
    OUTPUT_PIXELS.labels(model).inc(pixels)
    for stage, spent in seconds:
        STAGES.labels(stage).observe(spent)
