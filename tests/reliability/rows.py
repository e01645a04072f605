"""The threats that are tried, in the order of the page: what must hold, and the ordinary tests that try it
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """`threat`: as records name it. `tests`: files of the ordinary suite below `tests/`, with `::` and a name
    where one test of a file is meant."""

    threat: str
    holds: str
    tests: tuple[str, ...] = ()


ROWS: Final = (
    Row(
        "Bad images",
        "Every damaged file is refused as INVALID_ARGUMENT or RESOURCE_EXHAUSTED within 10 s, several at "
        "once; no INTERNAL, no UNKNOWN, no end of the server.",
        ("integration/media/test_decode_corpus.py", "integration/media/test_decode_refusals.py"),
    ),
    Row(
        "Bombs",
        "Small files that claim to be huge are refused, or their first frame alone is made; memory grows "
        "by 512 MB at most.",
        ("integration/media/test_decode_refusals.py",),
    ),
    Row(
        "Polyglots",
        "Content decides, not the name. Nothing that hid in a file comes through, and no position where "
        "it was to be removed.",
    ),
    Row(
        "Slow uploads",
        "Uploads of a byte a second are closed; meanwhile other callers wait at most twice as long.",
        ("unit/intake/test_upload.py",),
    ),
    Row("Half-open peers", "100 peers that fall silent are all freed within 45 s."),
    Row("HTTP/2 abuse", "100,000 streams opened and reset within 60 s: memory grows by 100 MB at most."),
    Row(
        "Client leaves",
        "When a caller goes, work on its image ends within 500 ms or one batch.",
        (
            "integration/pool/test_pool_cancel.py",
            "e2e/test_service.py::test_a_client_that_leaves_frees_the_device_and_leaves_nothing_behind",
        ),
    ),
    Row(
        "Deadlines",
        "Nothing is computed for a call whose deadline has passed.",
        ("e2e/test_service.py::test_a_deadline_ends_the_work",),
    ),
    Row(
        "Worker killed",
        "A worker killed in the middle of its work is replaced within 10 s, and the caller gets the same "
        "bytes without noticing.",
        ("e2e/test_killed_worker.py", "integration/pool/test_pool_losses.py"),
    ),
    Row(
        "Server killed",
        "No acknowledged job is lost, each ends once, and asking again with the same `request_id` finds "
        "the same job.",
        ("e2e/test_jobs_restarts.py", "integration/jobs/test_jobs_lives.py"),
    ),
    Row(
        "Graceful stop",
        "Health says NOT_SERVING first; no stream that is cut short ends with OK.",
        ("e2e/test_service.py::test_sigterm_lets_a_running_call_finish_and_refuses_new_ones",),
    ),
    Row(
        "Disk full",
        "New jobs are refused as RESOURCE_EXHAUSTED, calls and reads go on, no partial result is seen, "
        "and within 10 s of new room all is as before.",
        ("integration/storage/test_storage_full.py",),
    ),
    Row(
        "Corrupt database",
        "A damaged database is named as such when the server starts; never a wrong job, never silently "
        "empty.",
        ("unit/state/test_state_database.py",),
    ),
    Row(
        "SSRF",
        "No URL, redirect or name leads a fetch or a callback to an address inside.",
        ("integration/fetch/test_fetch_ssrf.py", "unit/intake/fetch/test_fetch_addresses.py"),
    ),
    Row(
        "Hostile origin",
        "Origins without end, of a byte a second, or that unpack to gigabytes are cut off; memory grows "
        "by 64 MB at most.",
        ("integration/fetch/test_fetch_hostile.py",),
    ),
    Row(
        "Receiver down",
        "Callbacks are tried again for three days, none is lost when the server is killed, and a dead "
        "receiver does not slow others.",
        (
            "integration/callbacks/test_callback_crowd.py",
            "integration/callbacks/test_callback_delivery.py",
            "integration/callbacks/test_callback_survival.py",
        ),
    ),
    Row(
        "Webhook signature",
        "The official library accepts every signature; any changed bit, and anything older than 300 s, "
        "fails.",
        ("unit/client/test_webhooks.py",),
    ),
    Row(
        "Keys",
        "Wrong keys are refused before the body is read, and held back; no key is in any log; what "
        "belongs to another caller is NOT_FOUND.",
        ("e2e/test_keys.py", "unit/access/test_access_identify.py"),
    ),
    Row(
        "Job names",
        "No name opens a file outside the data folder: it is INVALID_ARGUMENT or NOT_FOUND on every rpc.",
    ),
    Row(
        "Log injection",
        "Nothing a caller sends begins a line of the log or puts control bytes into it.",
        ("e2e/test_logs.py", "unit/telemetry/test_log_lines.py"),
    ),
    Row(
        "Queue growth",
        "Under ten times the load the queue stays within its bound, refusals come within 100 ms, and slow "
        "readers cost 200 MB at most.",
        ("e2e/test_pressure.py", "unit/pool/test_pool_admission.py"),
    ),
    Row(
        "Memory growth",
        "Over the last 5,000 of 10,000 mixed requests memory grows by 2 kB a request at most; "
        "descriptors, threads, shared memory and disk are flat.",
    ),
    Row(
        "Weights",
        "A file of weights that could run code, or has one changed byte, is refused before it is opened.",
        ("unit/engine/test_engine_weight_files.py", "integration/engine/test_engine_download.py"),
    ),
    Row(
        "Protobuf",
        "Messages that are too large, too deep or full of unknown fields get a clean status; memory grows "
        "by 50 MB at most.",
    ),
    Row(
        "Numbers",
        "Numbers at the edges, negative or not a number, are INVALID_ARGUMENT on every rpc.",
        ("e2e/test_refusals.py",),
    ),
    Row(
        "Supply chain",
        "The image's build takes nothing whose hash is not written down.",
        ("unit/deploy/test_lock_files.py", "unit/deploy/test_dockerfile.py"),
    ),
    Row(
        "Container",
        "Not root, no escalation, no capabilities, a read-only root, the default seccomp profile, no "
        "token of a service account.",
        ("kubernetes/test_pod_security.py",),
    ),
    Row(
        "Transfers cut",
        "An upload or a download that breaks goes on where it broke, and the bytes are the same.",
        ("integration/blobs/test_blobs_upload.py", "integration/blobs/test_blobs_download.py"),
    ),
    Row(
        "Cluster",
        "Servers that share their jobs are killed, cut off from NATS and restarted, and NATS loses its "
        "leader: every job ends once, with the same bytes, and is paid once; calls go on.",
        ("integration/state/test_nats_cluster.py", "integration/state/test_nats_killed.py"),
    ),
)
