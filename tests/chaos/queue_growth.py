"""Ten times as many images as the server can make, for minutes.

python -m tests.chaos.queue_growth [--seconds 120] [--short] [--out FILE]

Whether callers wait or not: images are sent at a fixed rate, each by a caller that does not try again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import grpc
import grpc.aio

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.e2e.metrics_page import scraped, summed
from tests.ports import free_address
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.sampling import RssSampler
from upscaled.v1 import options_pb2, upscaler_pb2, upscaler_pb2_grpc

_TIMES = 10
_CAPACITY_CALLS = 96
_CAPACITY_AT_ONCE = 16
_LOOK_SECONDS = 0.5
_REFUSAL_SECONDS = 0.1
# The server's own bounds, as they are where nothing is set; in the short form fewer wait.
_OPEN, _WAITING = 16, 128
_SHORT_WAITING = 8
_REQUEST = upscaler_pb2.UpscaleRequest(
    source=options_pb2.Source(image=picture(64, 48)), options=options_pb2.UpscaleOptions(model=FAST)
)
_FITTING = ("OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


async def capacity(server: RunningServer) -> float:
    """Images a second."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = upscaler_pb2_grpc.UpscalerStub(channel)
        turns = asyncio.Semaphore(_CAPACITY_AT_ONCE)

        async def one() -> None:
            async with turns:
                await stub.Upscale(_REQUEST, timeout=60)

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(_CAPACITY_CALLS)))
        return _CAPACITY_CALLS / (time.monotonic() - began)


async def flood(server: RunningServer, per_second: float, seconds: float) -> Counter[str]:
    """How calls end that begin at this rate."""
    ends: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = upscaler_pb2_grpc.UpscalerStub(channel)

        async def one() -> None:
            try:
                await stub.Upscale(_REQUEST, timeout=60)
            except grpc.aio.AioRpcError as error:
                ends[error.code().name] += 1
            else:
                ends["OK"] += 1

        began, calls = time.monotonic(), set[asyncio.Task[None]]()
        number = 0
        while time.monotonic() - began < seconds:
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            number += 1
            call = asyncio.create_task(one())
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)
    return ends


async def depths(metrics: str, most: Counter[str], series: list[tuple[float, float]]) -> None:
    """The most that was ever open, waiting and being answered; until it is cancelled."""
    began = time.monotonic()
    while True:
        now = await asyncio.to_thread(summed, metrics)
        for name in ("images_open", "images_waiting", "rpc_in_flight"):
            most[name] = max(most[name], round(now.get(f"upscaled_{name}", 0.0)))
        series.append((round(time.monotonic() - began, 2), now["upscaled_images_waiting"]))
        await asyncio.sleep(_LOOK_SECONDS)


def refusals(metrics: str) -> tuple[float, float]:
    """How many calls were refused, and how many of them within 100 ms of the server's time."""
    labels = {"service": "upscaled.v1.Upscaler", "method": "Upscale", "code": "RESOURCE_EXHAUSTED"}
    values = scraped(metrics)
    name, within = "upscaled_rpc_duration_seconds", {**labels, "le": str(_REFUSAL_SECONDS)}
    return (
        values.get((f"{name}_count", json.dumps(labels, sort_keys=True)), 0.0),
        values.get((f"{name}_bucket", json.dumps(within, sort_keys=True)), 0.0),
    )


async def flooded(
    server: RunningServer, metrics: str, record: Record, seconds: float, max_waiting: int
) -> Counter[str]:
    rate = await capacity(server)
    most, waiting = Counter[str](), list[tuple[float, float]]()
    looking = asyncio.create_task(depths(metrics, most, waiting))
    try:
        ends = await flood(server, _TIMES * rate, seconds)
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    if not looking.cancelled():
        raise RuntimeError("the depth of the queue could not be read") from looking.exception()
    record.figures = {
        "capacity_images_per_s": rate,
        "offered_images_per_s": sum(ends.values()) / seconds,
        "answered": ends["OK"],
        "refused": ends["RESOURCE_EXHAUSTED"],
        "most_images_open": most["images_open"],
        "most_images_waiting": most["images_waiting"],
        "most_calls_in_flight": most["rpc_in_flight"],
    }
    record.series["images_waiting"] = waiting
    for name, bound in (("images_open", _OPEN), ("images_waiting", max_waiting)):
        if most[name] > bound:
            record.not_held.append(f"{name.replace('_', ' ')} came to {most[name]}, the bound is {bound}")
    return ends


def main() -> int:
    parser = arguments("queue_growth", __doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    seconds = 10.0 if options.short else options.seconds
    record = Record(
        "queue_growth",
        "Queue growth",
        f"{_TIMES} times as many images as the server makes, for {seconds:g} s, from callers that do not "
        "wait for each other: the depth of the queue stays within its bound, and a refusal takes the server "
        f"at most {_REFUSAL_SECONDS * 1e3:g} ms (p99)",
        options.short,
    )
    metrics = free_address()
    waiting = _SHORT_WAITING if options.short else _WAITING
    with running_server(UPSCALED_METRICS_LISTEN=metrics, UPSCALED_MAX_WAITING_RUNS=str(waiting)) as server:
        control = Control(server)
        began = time.monotonic()
        with RssSampler(server.process.pid) as rss:
            ends = asyncio.run(flooded(server, metrics, record, seconds, waiting))
        record.seconds = time.monotonic() - began
        refused, within = refusals(metrics)
        record.not_held += control.problems(server)
    record.tried = sum(ends.values())
    record.held = sum(ends[name] for name in _FITTING)
    record.not_held += [f"{ends[name]} calls ended {name}" for name in ends if name not in _FITTING]
    if not refused:
        record.not_held.append("nothing was refused: the test tells nothing")
    elif within < 0.99 * refused:
        record.not_held.append(f"only {within / refused:.2%} of the refusals took at most 100 ms")
    record.figures |= {
        "refused_within_100_ms_percent": 100 * within / refused if refused else 0.0,
        "rss_growth_mib": rss.growth_bytes / (1 << 20),
    }
    record.series["rss_bytes"] = rss.series
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
