"""Servers of images that never end, dawdle, or pack a lot into little.

python -m tests.chaos.hostile_origin [--times 5] [--short]
    [--out bench-results/reliability/hostile_origin.json]

A real origin on this machine, which the operator of the server has opened.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST
from tests.integration.fetch.origin import OriginServer
from tests.reliability.control import Control
from tests.reliability.memory import PeakRss
from tests.reliability.record import Record, arguments, end
from upscaled import Client, UpscaledError

_MIB = 1 << 20
# What an image may have; the growth that is allowed is of this size, so that it is seen if it is held twice.
_MAX_INPUT_BYTES = 32 * _MIB
_MOST_GROWTH_BYTES = 64 * _MIB
_IDLE_SECONDS = 2
_LONGEST_SECONDS = 60.0
_REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
)
# Paths of the origin.
_ENDLESS = ("endless", "bomb", "endless-head", "endless-promises")
_DAWDLING = ("slow", "silent", "stalled", "crumbs")


@contextmanager
def origin() -> Iterator[tuple[OriginServer, int]]:
    """An origin that answers in a thread, and its port."""
    loop, server = asyncio.new_event_loop(), OriginServer()
    thread = threading.Thread(target=loop.run_forever, name="origin")
    thread.start()
    try:
        yield server, asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _fetch(client: Client, url: str) -> str:
    """What is wrong with how it ended."""
    try:
        client.upscale(url=url, model=FAST)
    except UpscaledError as error:
        return "" if error.code in _REFUSED else f"ended with {error.code}: {error}"
    return "an image came of it"


def _try(server: RunningServer, hostile: OriginServer, url: str, record: Record) -> tuple[float, int]:
    """The seconds until it was cut, and by how many bytes the memory grew."""
    began = time.monotonic()
    with (
        PeakRss(server.process.pid) as peak,
        Client(server.address, timeout=_LONGEST_SECONDS, retries=0) as client,
    ):
        problem = _fetch(client, url)
        seconds = time.monotonic() - began
    until = time.monotonic() + _LONGEST_SECONDS
    while not hostile.quiet.is_set():  # the origin notices that its reader has gone
        if time.monotonic() > until:
            problem = problem or "the connection is still open"
            break
        time.sleep(0.05)
    if not problem and peak.growth_bytes > _MOST_GROWTH_BYTES:
        problem = f"RSS grew by {peak.growth_bytes / _MIB:.0f} MiB"
    record.tried += 1
    record.held += not problem
    if problem:
        record.not_held.append(f"{url.rpartition('/')[2]}: {problem}")
    return seconds, peak.growth_bytes


def main() -> int:
    parser = arguments("hostile_origin", __doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    record = Record(
        "hostile_origin",
        "Hostile origin",
        "images from an origin whose body, headers or promises never end, that packs a gigabyte into a "
        "megabyte, sends bytes one by one or none, with images limited to 32 MiB: each is cut, and RSS grows "
        "by 64 MiB at most",
        options.short,
    )
    times = 1 if options.short else options.times
    began, slowest, most = time.monotonic(), 0.0, 0
    with origin() as (hostile, port):
        settings = {
            "UPSCALED_FETCH_ALLOW": f"localhost:{port}",
            "UPSCALED_FETCH_IDLE_SECONDS": str(_IDLE_SECONDS),
            "UPSCALED_MAX_INPUT_BYTES": str(_MAX_INPUT_BYTES),
        }
        with running_server(**settings) as server:
            with Client(server.address, timeout=_LONGEST_SECONDS) as client:
                client.upscale(url=f"http://localhost:{port}/ok.png", model=FAST)
            control = Control(server)
            for _ in range(times):
                for path in (*_ENDLESS, *_DAWDLING):
                    seconds, growth = _try(server, hostile, f"http://localhost:{port}/{path}", record)
                    slowest, most = max(slowest, seconds), max(most, growth)
            record.not_held += control.problems(server)
    record.seconds = time.monotonic() - began
    record.figures = {
        "kinds": len(_ENDLESS) + len(_DAWDLING),
        "slowest_cut_seconds": slowest,
        "largest_rss_growth_mib": round(most / _MIB, 1),
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
