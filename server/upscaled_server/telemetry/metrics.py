"""Every metric of the server, as a literal. Base units; every label has a bounded number of values.

What happens is counted where it happens (`RPCS`, `STAGES`, …). What is so at a moment is asked for at each
scrape: `SNAPSHOT` lists that, and `observation.py` gives the function that answers. `docs/metrics.md` is made
from this file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from upscaled_server.telemetry.labels import BoundedNames

REGISTRY: Final = CollectorRegistry(auto_describe=True)

# Memory, processor time and descriptors of the server's own process, under the names that the field uses.
ProcessCollector(registry=REGISTRY)

# Models of the catalogue have their names in any case; beside them come those of the operator's folder.
MODELS: Final = BoundedNames(50)
CALLERS: Final = BoundedNames(100)

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
RPC_RECEIVED: Final = Counter(
    "upscaled_rpc_received_bytes",
    "Bytes of the messages of callers, before they are parsed.",
    ("service", "method"),
    registry=REGISTRY,
)
RPC_SENT: Final = Counter(
    "upscaled_rpc_sent_bytes",
    "Bytes of the messages to callers, as they are handed to the network.",
    ("service", "method"),
    registry=REGISTRY,
)
REFUSED: Final = Counter(
    "upscaled_requests_refused",
    "Calls that ended with an error, by the reason in its `ErrorInfo`.",
    ("reason",),
    registry=REGISTRY,
)
STAGES: Final = Histogram(
    "upscaled_stage_duration_seconds",
    "Seconds for which a stage was at work for one image that was delivered, in a call or a job; for "
    "`callback`, seconds of one try. Stages overlap.",
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
BATCH_SIZES: Final = Histogram(
    "upscaled_batch_size",
    "Images computed together in one unit of device work.",
    buckets=(1, 2, 3, 4, 6, 8, 12, 16),
    registry=REGISTRY,
)
MODEL_LOADS: Final = Histogram(
    "upscaled_model_load_duration_seconds",
    "Seconds that a worker took to bring a model into its memory, with the download of its weights.",
    ("model",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
JOBS_ENDED: Final = Counter(
    "upscaled_jobs_ended", "Jobs that came to a final state.", ("state",), registry=REGISTRY
)
JOB_RETRIES: Final = Counter(
    "upscaled_job_retries",
    "Jobs put back into the queue because a worker, or the server, ended while it worked on them.",
    registry=REGISTRY,
)
CREDITS: Final = Counter("upscaled_credits_charged", "Credits charged.", ("model",), registry=REGISTRY)
CALLER_SECONDS: Final = Counter(
    "upscaled_caller_device_seconds",
    "Device seconds computed for a caller. The first 100 callers have their names, the rest are `other`.",
    ("caller",),
    registry=REGISTRY,
)
CODEC_FAILURES: Final = Counter(
    "upscaled_codec_failures",
    "Codec processes that ended, or had to be ended, in the middle of an image: crash, exit, killed (by the "
    "kernel, short of memory), cpu_time, wall_time, protocol, lost (the process that starts them ended). An "
    "image that is refused is no failure.",
    ("reason",),
    registry=REGISTRY,
)
CODEC_FAILURE_REASONS: Final = ("crash", "exit", "killed", "cpu_time", "wall_time", "protocol", "lost")

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
# Name: kind, what it says, the names of its labels. Counters are exposed with `_total`.
SNAPSHOT: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "upscaled_queue_units": (GAUGE, "Units of device work that wait, of all open images.", ("class",)),
    "upscaled_queue_pixels": (
        GAUGE,
        "Input pixels of admitted images, waiting or open, that are not computed.",
        ("class",),
    ),
    "upscaled_queue_device_seconds": (
        GAUGE,
        "Device seconds of admitted work that is not done, estimated from measured speed; of all devices "
        "together.",
        ("class",),
    ),
    "upscaled_queue_oldest_seconds": (
        GAUGE,
        "For how long the longest waiting image or unit of device work has waited; 0 when nothing waits.",
        ("class",),
    ),
    "upscaled_queue_limit_device_seconds": (
        GAUGE,
        "Device seconds of other work before which new work is refused: UPSCALED_MAX_PENDING_SECONDS for "
        "each device that is up.",
        (),
    ),
    "upscaled_images_open": (GAUGE, "Images that have a place at a device.", ()),
    "upscaled_images_waiting": (GAUGE, "Images that wait for a place at a device.", ()),
    "upscaled_device_ready": (GAUGE, "1 if the device's worker takes work.", ("device",)),
    "upscaled_device_busy_seconds": (
        COUNTER,
        "Seconds for which the device computed. Its rate is the busy fraction.",
        ("device",),
    ),
    "upscaled_device_memory_bytes": (
        GAUGE,
        "Memory in use: of a card all of it, of a CPU the worker's resident set. As of the worker's last "
        "heartbeat.",
        ("device",),
    ),
    "upscaled_device_memory_limit_bytes": (
        GAUGE,
        "Memory that there is: of the card, or of the machine or container.",
        ("device",),
    ),
    "upscaled_device_pixels": (
        COUNTER,
        "Input pixels computed, with those that are computed again around pieces.",
        ("device",),
    ),
    "upscaled_device_worker_restarts": (
        COUNTER,
        "Workers that were started in place of one that ended.",
        ("device",),
    ),
    "upscaled_device_out_of_memory": (
        COUNTER,
        "Times that memory did not suffice for what was to be computed, which was then tried in smaller "
        "pieces or lower bands where there are any.",
        ("device",),
    ),
    "upscaled_device_nan_fallbacks": (
        COUNTER,
        "Results that were not finite, and computed again in a finer precision where there is one.",
        ("device",),
    ),
    "upscaled_models_loaded": (GAUGE, "Models in the worker's memory.", ("device",)),
    "upscaled_jobs": (
        GAUGE,
        "Jobs that have not ended. Of servers that share a queue each counts all that wait in it.",
        ("state",),
    ),
    "upscaled_expired": (COUNTER, "Jobs, inputs and outputs whose time was over, and deleted.", ("kind",)),
    "upscaled_janitor_failures": (COUNTER, "Expired things that could not be deleted at a first try.", ()),
    "upscaled_janitor_late_seconds": (GAUGE, "By how much the last deleted thing had been due.", ()),
    "upscaled_callbacks": (
        COUNTER,
        "Tries to tell a receiver of a job's end. One that failed is tried again, one given up is not.",
        ("outcome",),
    ),
    "upscaled_callbacks_pending": (GAUGE, "Callbacks that are still to be delivered.", ()),
    "upscaled_stored_bytes": (GAUGE, "Bytes of inputs, outputs and tiles that are kept.", ()),
    "upscaled_stored_limit_bytes": (GAUGE, "Bytes that may be kept (UPSCALED_MAX_STORED_BYTES).", ()),
    "upscaled_data_free_bytes": (GAUGE, "Bytes free on the disk of UPSCALED_DATA_DIR.", ()),
    "upscaled_certificate_expiry_timestamp_seconds": (
        GAUGE,
        "When the server's certificate ends, in seconds since 1970. Absent without TLS.",
        (),
    ),
    "upscaled_process_resident_bytes": (
        GAUGE,
        "Resident memory of the server, all workers, all codec processes. Pages that codec processes share "
        "count for each of them; of workers as of the last heartbeat.",
        ("process",),
    ),
    "upscaled_process_cpu_seconds": (
        COUNTER,
        "Processor seconds, user and system, of the server, all workers, all codec processes; of codec "
        "processes when they end.",
        ("process",),
    ),
}

Values: TypeAlias = Mapping[str, float | Mapping[str, float] | None]
"""By the names of `SNAPSHOT`: a number, numbers by the value of the one label, or None for what is absent."""


def exposition(values: Values) -> bytes:
    """Everything in Prometheus' text format: what was counted, and what is so now."""
    return generate_latest(_Everything(values))


class _Everything(CollectorRegistry):
    def __init__(self, values: Values) -> None:
        super().__init__()
        self._values = values

    def collect(self) -> Iterator[Metric]:
        yield from REGISTRY.collect()
        for name, value in self._values.items():
            if value is not None:
                yield _family(name, value)


def _family(name: str, value: float | Mapping[str, float]) -> Metric:
    kind, said, labels = SNAPSHOT[name]
    family = (GaugeMetricFamily if kind == GAUGE else CounterMetricFamily)(name, said, labels=labels)
    if not isinstance(value, Mapping):
        family.add_metric([], value)
        return family
    for label, number in value.items():
        family.add_metric([label], number)
    return family


def note_image(model: str, pixels: int, seconds: Iterable[tuple[str, float]]) -> None:
    """An image was delivered: `pixels` of output, `seconds` by stage."""
    name = MODELS(model)
    IMAGES.labels(name).inc()
    OUTPUT_PIXELS.labels(name).inc(pixels)
    for stage, spent in seconds:
        STAGES.labels(stage).observe(spent)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Observe what is done inside as one turn of a stage, unless it raises."""
    began = time.perf_counter()
    yield
    STAGES.labels(stage).observe(time.perf_counter() - began)


def begin(
    version: str, *, models: Iterable[str], reasons: Iterable[str], ended_states: Iterable[str]
) -> None:
    """Name this build and the models of the catalogue, and let counters of a closed set begin at 0: the first
    increase of a series that was not there before is no increase to Prometheus."""
    # One more series for every counter and histogram, which nothing here asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    BUILD.info({"version": version})
    MODELS.reserve(models)
    for reason in reasons:
        REFUSED.labels(reason)
    for reason in CODEC_FAILURE_REASONS:
        CODEC_FAILURES.labels(reason)
    for state in ended_states:
        JOBS_ENDED.labels(state)
