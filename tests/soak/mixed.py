"""Ten thousand requests of every kind, eight at once, half of them bad or odd: nothing grows.

python -m tests.soak --mixed [--requests 10000] [--seed 1] [--short] [--out FILE]

Worker processes are killed meanwhile. What the server holds is sampled every second; and compared at rest, in
the middle and at the end, once files have expired. A control image must give the same bytes before and
afterwards.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST, KeyedServer, picture
from tests.e2e.receiver import Receiver, receiver
from tests.ports import free_address
from tests.reliability.record import Record, arguments, end
from tests.soak import pictures
from tests.soak.levels import KEPT_BUFFERS, Levels
from tests.soak.load import AT_ONCE, Load, Outcomes
from tests.soak.sampling import Sampler, Samples, disk_bytes
from upscaled import Client, webhooks
from upscaled.v1 import admin_pb2_grpc

_SHORT_REQUESTS = 400
_REQUESTS_OF_A_KILL = 250
_RETENTION_SECONDS = 30
_SHORT_RETENTION_SECONDS = 8
_JANITOR_SECONDS = 2
# From the expiry of what is kept until it is certainly deleted, and what was killed is gone.
_SETTLE_SECONDS = 8
_POINTS = 240
# Larger ones are refused by their header; that they are decoded is the other soak's part.
_MOST_INPUT_PIXELS = 1 << 17

_MOST_GROWTH_PER_REQUEST: Final = 2048
_SLACK: Final = {
    "descriptors": 2,
    "buffers": 8,
    "threads": 2,
    "processes": 0,
    "shared_memory_bytes": 1 << 20,
    "disk_bytes": 1 << 20,
}
# Pools of threads are still filling then, and so is memory.
_SHORT_SLACK: Final = _SLACK | {"threads": 16}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is, and what belongs to it."""

    server: KeyedServer
    key: str
    metrics: str
    hook: Receiver
    retention_seconds: int

    @property
    def client(self) -> Client:
        return Client(self.server.address, api_key=self.key, timeout=120)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is held when nobody calls and what was kept has expired."""

    levels: Levels
    disk_bytes: int

    @classmethod
    def of(cls, place: Place) -> Rest:
        time.sleep(place.retention_seconds + _SETTLE_SECONDS)
        return cls(Levels.of(place.server.server.process.pid), disk_bytes(place.server.folder))

    def value(self, name: str) -> int:
        return self.disk_bytes if name == "disk_bytes" else int(getattr(self.levels, name))


@contextmanager
def place(folder: Path, retention_seconds: int) -> Iterator[Place]:
    """A server whose files expire soon, and a receiver of callbacks. Its log is outside its data."""
    data, metrics = folder / "data", free_address()
    data.mkdir()
    log = folder / "server.log"
    with ExitStack() as stack:
        hook = stack.enter_context(receiver(b""))
        environ = {
            "UPSCALED_DATA_DIR": str(data),
            "UPSCALED_METRICS_LISTEN": metrics,
            "UPSCALED_MAX_INPUT_PIXELS": str(_MOST_INPUT_PIXELS),
            "UPSCALED_DEFAULT_RETENTION_SECONDS": str(retention_seconds),
            "UPSCALED_JANITOR_SECONDS": str(_JANITOR_SECONDS),
            "UPSCALED_CALLBACK_ALLOW": hook.origin.removeprefix("http://"),
            "UPSCALED_CALLBACK_HTTP": "true",
        }
        running = stack.enter_context(running_server(log, **environ))
        channel = stack.enter_context(grpc.insecure_channel(f"unix:{data}/admin.sock"))
        server = KeyedServer(running, admin_pb2_grpc.AdminStub(channel), data, log)
        yield Place(server, server.make_key("soak"), metrics, hook, retention_seconds)


def soak(place: Place, requests: int, seed: int, record: Record) -> Outcomes:
    """All of it; `record` has the figures afterwards."""
    load = Load(place.server.server, place.key, f"{place.hook.origin}/done", seed)
    found, half = load.outcomes, requests // 2
    kills = half // _REQUESTS_OF_A_KILL + 1
    before = control(place)
    process = place.server.server.process
    with Sampler(
        process.pid, place.metrics, place.server.folder, found.latencies, lambda: found.ended
    ) as samples:
        load.run(range(half), kills)
        middle = Rest.of(place)
        load.run(range(half, requests), kills)
        last = Rest.of(place)
    record.tried, record.held = found.ended, found.held
    record.not_held += found.wrong
    _judge_growth(record, samples, half, middle, last)
    _judge(record, "internal_or_unknown", found.faults, 0)
    _judge(record, "callbacks_not_received", len(untold(place, found.told)), 0)
    _judge(record, "control_images_that_changed", int(control(place) != before), 0)
    _judge(record, "server_deaths", int(process.poll() is not None), 0)
    record.figures |= {
        "worker_kills": found.kills,
        "callbacks": len(found.told),
        "requests_at_once": AT_ONCE,
    }
    record.series = samples.thinned(_POINTS)
    return found


def control(place: Place) -> bytes:
    with place.client as client:
        return client.upscale(picture(40, 30), model=FAST).data


def untold(place: Place, told: list[str]) -> list[str]:
    """The jobs that the receiver never heard of. Every callback's signature is checked."""
    with place.client as client:
        secrets = client.webhook_secrets()
    heard = set()
    while not place.hook.callbacks.empty():
        body, headers = place.hook.callbacks.get_nowait()
        heard.add(webhooks.verify(body, headers, secrets, tolerance_seconds=86400)["id"])
    return sorted(set(told) - heard)


def _judge_growth(record: Record, samples: Samples, half: int, middle: Rest, last: Rest) -> None:
    for name in ("server_rss_bytes", "tree_rss_bytes"):
        growth = round(samples.slope(name, half), 1)
        most = None if record.short else _MOST_GROWTH_PER_REQUEST
        _judge(record, f"{name.removesuffix('_bytes')}_growth_bytes_per_request", growth, most)
    for name, slack in (_SHORT_SLACK if record.short else _SLACK).items():
        first, then = middle.value(name), last.value(name)
        record.figures[f"{name}_in_the_middle"], record.figures[f"{name}_at_the_end"] = first, then
        kept = KEPT_BUFFERS if name == "buffers" else 0
        if then > max(first + slack, kept):
            record.not_held.append(f"{name}: {first} at rest in the middle, {then} at the end")


def _around_first_traceback(log: str) -> str:
    """The log is gone afterwards, so what was not to be there is shown."""
    lines = log.splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines) if "Traceback" in line), None)
    return "" if at is None else "".join(lines[max(0, at - 5) : at + 80])


def _judge(record: Record, name: str, value: float, most: float | None) -> None:
    record.figures[name] = value
    if most is not None and value > most:
        record.not_held.append(f"{name}: {value}, at most {most} is held")


def main() -> int:
    parser = arguments("soak_mixed", (__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    requests = _SHORT_REQUESTS if options.short else options.requests
    record = Record(
        scenario="soak_mixed",
        row="Memory growth",
        what=f"{requests:,} requests, {AT_ONCE} at once: images of all formats, streams, jobs, callbacks, "
        "uploads cut and resumed, downloads, slow readers, callers that leave; and as many bad and "
        "odd files, wrong keys, names, options and messages. Workers were killed with -9 meanwhile. "
        "In the middle and at the end all files expire unasked for; what is held then is compared.",
        short=options.short,
    )
    pictures.good()
    pictures.hostile()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upscaled-soak-") as name:
        retention = _SHORT_RETENTION_SECONDS if options.short else _RETENTION_SECONDS
        with place(Path(name), retention) as running:
            found = soak(running, requests, options.seed, record)
        log = running.server.log.read_text(errors="replace")
    _judge(record, "tracebacks_in_the_log", log.count("Traceback"), 0)
    print(_around_first_traceback(log), end="")
    record.seconds = round(time.monotonic() - began, 1)
    for kind, outcomes in sorted(found.by_kind.items()):
        print(f"  {kind:16} " + ", ".join(f"{count} {each}" for each, count in sorted(outcomes.items())))
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
