"""The metrics that there are, as the server's one file of them declares: names, labels and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import grpc
from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.utils import floatToGoString

from upscaled.v1 import account_pb2, admin_pb2, blobs_pb2, jobs_pb2, models_pb2, server_pb2, upscaler_pb2
from upscaled_server import errors
from upscaled_server.pipeline.events import Stage
from upscaled_server.pool.claim import PriorityClass
from upscaled_server.telemetry import metrics

PROTOS = (account_pb2, admin_pb2, blobs_pb2, jobs_pb2, models_pb2, server_pb2, upscaler_pb2)
# What Prometheus adds to every series: the target's labels. `namespace` is there on Kubernetes.
TARGET_LABELS = frozenset({"job", "instance", "namespace"})
# What prometheus_client tells of the process, and Prometheus of a target.
OF_OTHERS = ("up", "process_start_time_seconds", "process_open_fds", "process_max_fds")


@dataclass(frozen=True, slots=True)
class Declared:
    """`kind`: counter, gauge, histogram or info. `buckets`: their bounds, as the label `le` has them."""

    kind: str
    labels: frozenset[str]
    buckets: tuple[str, ...] = ()


def declared_metrics() -> dict[str, Declared]:
    """By the name of the metric as it is scraped, without the suffixes of a histogram."""
    found = dict[str, Declared]()
    for each in vars(metrics).values():
        if isinstance(each, Counter | Gauge | Histogram | Info):
            found.update([_of_instrument(each)])
    for name, (kind, _, labels) in metrics.SNAPSHOT.items():
        found[name + ("_total" if kind == "counter" else "")] = Declared(kind, frozenset(labels))
    return found | {name: Declared("gauge", frozenset()) for name in OF_OTHERS}


def _of_instrument(instrument: Counter | Gauge | Histogram | Info) -> tuple[str, Declared]:
    # prometheus_client has no public way to ask for the labels and buckets of what it declares.
    name, labels = instrument._name, frozenset(instrument._labelnames)
    if isinstance(instrument, Histogram):
        bounds = instrument._kwargs.get("buckets", Histogram.DEFAULT_BUCKETS)
        return name, Declared("histogram", labels, (*map(floatToGoString, bounds), "+Inf"))
    if isinstance(instrument, Info):
        return f"{name}_info", Declared("info", labels | {"version"})
    if isinstance(instrument, Counter):
        return f"{name}_total", Declared("counter", labels)
    return name, Declared("gauge", labels)


def series_names() -> dict[str, Declared]:
    """By the names of series: a histogram has three."""
    found = {}
    for name, each in declared_metrics().items():
        if each.kind != "histogram":
            found[name] = each
            continue
        for suffix in ("_bucket", "_sum", "_count"):
            extra = {"le"} if suffix == "_bucket" else frozenset[str]()
            found[name + suffix] = Declared(each.kind, each.labels | extra, each.buckets)
    return found


def label_values() -> dict[str, frozenset[str]]:
    """What labels of a closed set may say."""
    services = [service for proto in PROTOS for service in proto.DESCRIPTOR.services_by_name.values()]
    return {
        "code": frozenset(code.name for code in grpc.StatusCode),
        "class": frozenset(get_args(PriorityClass)),
        "service": frozenset(service.full_name for service in services),
        "method": frozenset(method.name for service in services for method in service.methods),
        "stage": frozenset({*(str(stage.value) for stage in Stage), "callback"}),
        "outcome": frozenset({"delivered", "failed", "given_up"}),
        "reason": frozenset(_reasons(errors.DomainError)),
    }


def _reasons(kind: type[errors.DomainError]) -> set[str]:
    return {kind.reason}.union(*map(_reasons, kind.__subclasses__()))
