"""What the dashboard shows: rows of panels with their queries. `render_dashboard.py` makes JSON of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What the variables at the top select: of series as scraped, and of recorded ones, which are by job.
_AT = 'job=~"$job",instance=~"$instance"'
_JOB = 'job=~"$job"'


@dataclass(frozen=True, slots=True)
class Query:
    """`shown`: the legend, where `{{label}}` stands for a label's value."""

    expr: str
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`unit` is one of Grafana's names of units. `bad_above`: from there on the value is shown in red."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False
    bad_above: float | None = None
    bad_below: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str, at: str = _AT) -> str:
    return f"sum by ({by}) (rate({metric}{{{at}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, at: str = _AT) -> str:
    buckets = f"sum by (le, {by}) (rate({metric}_bucket{{{at}}}[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})"


def _mean(metric: str, by: str) -> str:
    total, count = (_rate(f"{metric}_{what}", by) for what in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def _mean_so_far(metric: str, by: str) -> str:
    """Of what happens too seldom for a rate."""
    total, count = (f"sum by ({by}) ({metric}_{what}{{{_AT}}})" for what in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def _increase(metric: str, by: str) -> str:
    return f"sum by ({by}) (increase({metric}{{{_AT}}}[$__rate_interval]))"


_UPSCALE = f'{_AT},method="Upscale",code="OK"'
_FAULTS = f'{_AT},code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS"'

OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Servers with a device that works",
            "Servers of which at least one device takes work. 0 means that nothing is computed.",
            "none",
            (Query(f"sum(max by (namespace, job, instance) (upscaled_device_ready{{{_AT}}}))"),),
            "stat",
            width=4,
            bad_below=1,
        ),
        Panel(
            "Calls",
            "Calls that ended, per second.",
            "reqps",
            (Query(f"sum(rate(upscaled_rpc_duration_seconds_count{{{_AT}}}[$__rate_interval]))"),),
            "stat",
            width=4,
        ),
        Panel(
            "Failed by the server's fault",
            "Share of the calls that count, within an hour. The objective is at most 0.1% over 30 days "
            "(docs/slo.md).",
            "percentunit",
            (Query(f"max(job:upscaled_rpc_failed:ratio1h{{{_JOB}}})"),),
            "stat",
            width=4,
            bad_above=0.001,
        ),
        Panel(
            "Error budget left",
            "What is left of the 0.1% of 30 days. Below 0 the objective is missed.",
            "percentunit",
            (
                Query(
                    f"min(1 - sum_over_time(job:upscaled_rpc_failed:rate5m{{{_JOB}}}[30d])"
                    f" / (sum_over_time(job:upscaled_rpc_counted:rate5m{{{_JOB}}}[30d]) > 0) / 0.001)"
                ),
            ),
            "stat",
            width=4,
            bad_below=0,
        ),
        Panel(
            "Upscale calls slower than 5 s",
            "Share of the unary calls that were answered, within an hour. The objective is at most 5%.",
            "percentunit",
            (Query(f"max(job:upscaled_upscale_slow:ratio1h{{{_JOB}}})"),),
            "stat",
            width=4,
            bad_above=0.05,
        ),
        Panel(
            "Refused",
            "Share of the images asked for that were refused because too much waits, within 5 minutes. "
            "Refusals are no errors, but say that capacity is short.",
            "percentunit",
            (Query(f"max(job:upscaled_images_refused:ratio5m{{{_JOB}}})"),),
            "stat",
            width=4,
            bad_above=0.05,
        ),
    ),
)

CALLS = Row(
    "Calls: rate, errors, duration",
    (
        Panel(
            "Calls by method",
            "Calls that ended, per second, whatever their status.",
            "reqps",
            (Query(_rate("upscaled_rpc_duration_seconds_count", "method"), "{{method}}"),),
        ),
        Panel(
            "Errors by method and code",
            "Calls that failed by the server's fault, per second: these use up the error budget.",
            "reqps",
            (
                Query(
                    _rate("upscaled_rpc_duration_seconds_count", "method, code", _FAULTS),
                    "{{method}} {{code}}",
                ),
            ),
        ),
        Panel(
            "Calls by code",
            "How calls end, per second. RESOURCE_EXHAUSTED is a refusal, not an error.",
            "reqps",
            (Query(_rate("upscaled_rpc_duration_seconds_count", "code"), "{{code}}"),),
            stacked=True,
        ),
        Panel(
            "Duration by method, 95th percentile",
            "Of calls that were answered, from the first byte in to the last byte out. Streams take as long "
            "as their image.",
            "s",
            (
                Query(
                    _quantile(0.95, "upscaled_rpc_duration_seconds", "method", f'{_AT},code="OK"'),
                    "{{method}}",
                ),
            ),
        ),
        Panel(
            "Duration of Upscale",
            "The unary call, which the latency objective is about: 95% within 5 s.",
            "s",
            tuple(
                Query(_quantile(share, "upscaled_rpc_duration_seconds", "method", _UPSCALE), shown)
                for share, shown in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))
            ),
            bad_above=5,
        ),
        Panel(
            "Refusals by reason",
            "Requests that ended with an error of the domain, per second, by the reason that callers see.",
            "reqps",
            (Query(_rate("upscaled_requests_refused_total", "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Calls in flight",
            "Calls that are being answered now.",
            "none",
            (Query(f"sum by (method) (upscaled_rpc_in_flight{{{_AT}}})", "{{method}}"),),
        ),
        Panel(
            "Bytes received and sent",
            "Payload of messages, per second.",
            "Bps",
            (
                Query(f"sum(rate(upscaled_rpc_received_bytes_total{{{_AT}}}[$__rate_interval]))", "received"),
                Query(f"sum(rate(upscaled_rpc_sent_bytes_total{{{_AT}}}[$__rate_interval]))", "sent"),
            ),
        ),
        Panel(
            "Burn rate of the error budget",
            "1 uses up the budget in exactly 30 days. Pages come at 14.4 over an hour and 6 over 6 hours.",
            "none",
            tuple(
                Query(f"max(job:upscaled_rpc_failed:ratio{window}{{{_JOB}}}) / 0.001", window)
                for window in ("1h", "6h", "3d")
            ),
            bad_above=14.4,
        ),
    ),
)

IMAGES = Row(
    "Images",
    (
        Panel(
            "Images by model",
            "Images delivered whole, per second, in calls and jobs.",
            "ops",
            (Query(_rate("upscaled_images_delivered_total", "model"), "{{model}}"),),
            stacked=True,
        ),
        Panel(
            "Output pixels by model",
            "Pixels of the images delivered, per second.",
            "pixels/s",
            (Query(_rate("upscaled_output_pixels_delivered_total", "model"), "{{model}}"),),
            stacked=True,
        ),
        Panel(
            "Seconds by stage",
            "For how long a stage was at work for one image, at the 95th percentile. Stages overlap.",
            "s",
            (Query(_quantile(0.95, "upscaled_stage_duration_seconds", "stage"), "{{stage}}"),),
        ),
    ),
)

QUEUE = Row(
    "Queue and saturation",
    (
        Panel(
            "Device seconds that wait",
            "Admitted work that is not done, by class, and the bound beyond which work is refused. "
            "Autoscalers follow this.",
            "s",
            (
                Query(f"sum by (class) (upscaled_queue_device_seconds{{{_AT}}})", "{{class}}"),
                Query(f"sum(upscaled_queue_limit_device_seconds{{{_AT}}})", "bound"),
            ),
        ),
        Panel(
            "How full the queue is",
            "Of what it may hold, by server. An alert comes at 80%.",
            "percentunit",
            (Query(f"instance:upscaled_queue_fill:ratio{{{_AT}}}", "{{instance}}"),),
            bad_above=0.8,
        ),
        Panel(
            "Oldest that waits",
            "For how long the oldest of each class has waited. Interactive images wake somebody up at 30 s.",
            "s",
            (Query(f"max by (class) (upscaled_queue_oldest_seconds{{{_AT}}})", "{{class}}"),),
        ),
        Panel(
            "Images at a device and waiting",
            "Images that have a place at a device, and those that wait for one.",
            "none",
            (
                Query(f"sum(upscaled_images_open{{{_AT}}})", "at a device"),
                Query(f"sum(upscaled_images_waiting{{{_AT}}})", "waiting"),
            ),
        ),
        Panel(
            "Units that wait",
            "Bounded pieces of device work that wait for their turn, by class.",
            "none",
            (Query(f"sum by (class) (upscaled_queue_units{{{_AT}}})", "{{class}}"),),
        ),
        Panel(
            "Pixels that wait",
            "Input pixels of admitted work that is not done, by class.",
            "pixels",
            (Query(f"sum by (class) (upscaled_queue_pixels{{{_AT}}})", "{{class}}"),),
        ),
        Panel(
            "Images computed together",
            "Images in one unit of work: mean, and 95th percentile. Above 1 only where a device computes "
            "batches.",
            "none",
            (
                Query(_mean("upscaled_batch_size", "job"), "mean"),
                Query(_quantile(0.95, "upscaled_batch_size", "job"), "95th percentile"),
            ),
        ),
        Panel(
            "Refused because too much waits",
            "Share of the images asked for, by job, within 5 minutes.",
            "percentunit",
            (Query(f"job:upscaled_images_refused:ratio5m{{{_JOB}}}", "{{job}}"),),
            bad_above=0.05,
        ),
        Panel(
            "Time in the queue",
            "How long images waited for their device: median and 95th percentile.",
            "s",
            tuple(
                Query(
                    _quantile(share, "upscaled_stage_duration_seconds", "stage", f'{_AT},stage="queue"'),
                    shown,
                )
                for share, shown in ((0.5, "median"), (0.95, "95th percentile"))
            ),
        ),
    ),
)

DEVICES = Row(
    "Devices",
    (
        Panel(
            "Ready",
            "1 if the device's worker takes work.",
            "none",
            (Query(f"upscaled_device_ready{{{_AT}}}", "{{instance}} {{device}}"),),
        ),
        Panel(
            "Busy share",
            "Share of the time for which a device computes, within 5 minutes.",
            "percentunit",
            (Query(f"instance_device:upscaled_device_busy:ratio5m{{{_AT}}}", "{{instance}} {{device}}"),),
        ),
        Panel(
            "Megapixels per busy second",
            "Input pixels that a device computes in a second of work, within 30 minutes: what capacity is "
            "reckoned with. It depends on the model.",
            "pixels/s",
            (Query(f"job_device:upscaled_device_pixels_per_busy_second:ratio30m{{{_JOB}}}", "{{device}}"),),
        ),
        Panel(
            "Input pixels computed",
            "By device, per second.",
            "pixels/s",
            (Query(_rate("upscaled_device_pixels_total", "instance, device"), "{{instance}} {{device}}"),),
            stacked=True,
        ),
        Panel(
            "Memory",
            "Memory in use, of what there is: of a card all of it, of a CPU that of the worker.",
            "percentunit",
            (
                Query(
                    f"upscaled_device_memory_bytes{{{_AT}}} / upscaled_device_memory_limit_bytes{{{_AT}}}",
                    "{{instance}} {{device}}",
                ),
            ),
            bad_above=0.95,
        ),
        Panel(
            "Worker restarts",
            "Workers that were started in place of one that ended. More than 3 in 15 minutes is flapping.",
            "none",
            (
                Query(
                    _increase("upscaled_device_worker_restarts_total", "instance, device"),
                    "{{instance}} {{device}}",
                ),
            ),
        ),
        Panel(
            "Out of memory, and not finite",
            "Work that was done again: in smaller units, or in a wider precision.",
            "none",
            (
                Query(_increase("upscaled_device_out_of_memory_total", "device"), "{{device}} out of memory"),
                Query(_increase("upscaled_device_nan_fallbacks_total", "device"), "{{device}} not finite"),
            ),
        ),
        Panel(
            "Models loaded",
            "Models in memory, by device.",
            "none",
            (Query(f"upscaled_models_loaded{{{_AT}}}", "{{instance}} {{device}}"),),
        ),
        Panel(
            "Time to load a model",
            "Mean since the servers started, with the download of weights where that was needed.",
            "s",
            (Query(_mean_so_far("upscaled_model_load_duration_seconds", "model"), "{{model}}"),),
        ),
    ),
)

JOBS = Row(
    "Jobs and callbacks",
    (
        Panel(
            "Jobs that have not ended",
            "Queued and running.",
            "none",
            (Query(f"sum by (state) (upscaled_jobs{{{_AT}}})", "{{state}}"),),
        ),
        Panel(
            "Jobs that ended",
            "By how they ended, per second.",
            "ops",
            (Query(_rate("upscaled_jobs_ended_total", "state"), "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Tried again",
            "Jobs that went back to the queue because a worker or the server ended, per second.",
            "ops",
            (Query(f"sum(rate(upscaled_job_retries_total{{{_AT}}}[$__rate_interval]))", "jobs"),),
        ),
        Panel(
            "Callbacks",
            "Tries to tell a receiver how a job ended, by outcome, per second.",
            "ops",
            (Query(_rate("upscaled_callbacks_total", "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Callbacks to deliver",
            "Those that have not been delivered yet and will be tried again.",
            "none",
            (Query(f"sum(upscaled_callbacks_pending{{{_AT}}})", "pending"),),
        ),
        Panel(
            "Expired and deleted",
            "Jobs, inputs and outputs whose time was over, per second, and deletions that failed.",
            "ops",
            (
                Query(_rate("upscaled_expired_total", "kind"), "{{kind}}"),
                Query(f"sum(rate(upscaled_janitor_failures_total{{{_AT}}}[$__rate_interval]))", "failed"),
            ),
        ),
        Panel(
            "Deleted late",
            "By how much the last thing that was deleted had been due.",
            "s",
            (Query(f"max by (instance) (upscaled_janitor_late_seconds{{{_AT}}})", "{{instance}}"),),
        ),
    ),
)

CALLERS = Row(
    "Callers",
    (
        Panel(
            "Device seconds by caller",
            "Who has the devices: the ten that take most, in device seconds per second.",
            "none",
            (Query(f"topk(10, {_rate('upscaled_caller_device_seconds_total', 'caller')})", "{{caller}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Credits charged by model",
            "Per second. Nothing is charged for what was not delivered.",
            "none",
            (Query(_rate("upscaled_credits_charged_total", "model"), "{{model}}"),),
            width=12,
            stacked=True,
        ),
    ),
)

PROCESSES = Row(
    "Processes and storage",
    (
        Panel(
            "Resident memory",
            "Of the server, its workers and its codec processes.",
            "bytes",
            (Query(f"sum by (process) (upscaled_process_resident_bytes{{{_AT}}})", "{{process}}"),),
            stacked=True,
        ),
        Panel(
            "CPU",
            "Seconds of CPU per second.",
            "none",
            (Query(_rate("upscaled_process_cpu_seconds_total", "process"), "{{process}}"),),
            stacked=True,
        ),
        Panel(
            "Codec failures by reason",
            "Processes that decode or encode and ended in the middle of an image, per second.",
            "ops",
            (Query(_rate("upscaled_codec_failures_total", "reason"), "{{reason}}"),),
        ),
        Panel(
            "Files kept",
            "Bytes of inputs, outputs and tiles, and what may be kept.",
            "bytes",
            (
                Query(f"sum by (instance) (upscaled_stored_bytes{{{_AT}}})", "{{instance}}"),
                Query(f"max(upscaled_stored_limit_bytes{{{_AT}}})", "bound"),
            ),
        ),
        Panel(
            "Free on the data disk",
            "Where UPSCALED_DATA_DIR is. A page comes below 2 GB.",
            "bytes",
            (Query(f"min by (instance) (upscaled_data_free_bytes{{{_AT}}})", "{{instance}}"),),
        ),
        Panel(
            "Certificate",
            "How long it is still valid. Nothing is shown where the server has none.",
            "s",
            (
                Query(
                    f"min by (instance) (upscaled_certificate_expiry_timestamp_seconds{{{_AT}}}) - time()",
                    "{{instance}}",
                ),
            ),
            bad_below=14 * 86400,
        ),
        Panel(
            "Versions",
            "Servers by version. More than one outside an upgrade is a mistake.",
            "none",
            (Query(f"count by (version) (upscaled_build_info{{{_AT}}})", "{{version}}"),),
        ),
        Panel(
            "Open files",
            "File descriptors of the server process, of as many as it may have.",
            "percentunit",
            (Query(f"process_open_fds{{{_AT}}} / process_max_fds{{{_AT}}}", "{{instance}}"),),
            bad_above=0.8,
        ),
    ),
)

ROWS = (OVERVIEW, CALLS, IMAGES, QUEUE, DEVICES, JOBS, CALLERS, PROCESSES)
