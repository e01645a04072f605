"""Calls with 50 ms to live: nothing is computed for them afterwards.

python -m tests.chaos.deadlines [--calls 100] [--short] [--out FILE]

Half of them come from the gRPC library, which leaves by itself when the time is over, and half in raw frames
from a peer that waits for the server to end them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from tests.chaos.device_work import batches_after, device_seconds, too_many
from tests.chaos.http2 import Peer, framed
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.ports import free_address
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled.v1 import options_pb2, upscaler_pb2, upscaler_pb2_grpc

_LANES = 2
_DEADLINE_SECONDS = 0.05
_ANSWER_SECONDS = 5.0
_SIZES = ((48, 32), (160, 120), (320, 240), (640, 448))
# Statuses as numbers: OK, DEADLINE_EXCEEDED; and a stream that is reset, as RFC 9113 and gRPC allow.
_FITTING = ("0", "4", "reset")


def in_library(server: KeyedServer, key: str, request: upscaler_pb2.UpscaleRequest) -> str:
    with grpc.insecure_channel(server.address) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        try:
            upscaler_pb2_grpc.UpscalerStub(channel).Upscale(
                request, metadata=bearer(key), timeout=_DEADLINE_SECONDS
            )
        except grpc.RpcError as error:
            return str(error.code().value[0])
    return "0"


def in_frames(server: KeyedServer, key: str, request: upscaler_pb2.UpscaleRequest) -> str:
    with Peer(server.address) as peer:
        timeout = ("grpc-timeout", f"{round(_DEADLINE_SECONDS * 1e3)}m")
        stream = peer.begin("/upscaled.v1.Upscaler/Upscale", *bearer(key), timeout)
        peer.send_all(stream, framed(request.SerializeToString()))
        return peer.wait(stream, _ANSWER_SECONDS).status or "none"


def _lane(
    server: KeyedServer, metrics: str, number: int, calls: int, record: Record, ends: Counter[str]
) -> None:
    caller = f"hurried-{number}"
    key, call = server.make_key(caller), (in_library, in_frames)[number % 2]
    for each in range(calls):
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=picture(*_SIZES[each % len(_SIZES)])),
            options=options_pb2.UpscaleOptions(model=FAST),
        )
        before = device_seconds(metrics, caller)
        status = call(server, key, request)
        over = time.monotonic()
        begun = device_seconds(metrics, caller) > before
        ended = batches_after(metrics, caller, over)
        ends["answered" if status == "0" else "begun" if begun or ended else "not begun"] += 1
        if too_many(ended):
            shown = ", ".join(f"{each:.2f}" for each in ended)
            record.not_held.append(f"batches ended {shown} s after the deadline")
        elif status not in _FITTING:
            record.not_held.append(f"a call of {call.__name__} ended with status {status}")
        else:
            record.held += 1


def main() -> int:
    parser = arguments("deadlines", __doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    calls = 16 if options.short else options.calls
    record = Record(
        "deadlines",
        "Deadlines",
        f"{calls} calls with a deadline of 50 ms, images from 48x32 to 640x448: answered in time, or ended "
        "and no batch computed after 500 ms but one that was begun",
        options.short,
        tried=calls,
    )
    metrics = free_address()
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name,
        keyed_server(Path(name), UPSCALED_METRICS_LISTEN=metrics) as server,
    ):
        control = Control(server.server, server.make_key("control"))
        began, ends = time.monotonic(), Counter[str]()
        with ThreadPoolExecutor(_LANES) as lanes:
            running = [
                lanes.submit(_lane, server, metrics, number, calls // _LANES, record, ends)
                for number in range(_LANES)
            ]
            for each in running:
                each.result()
        record.seconds = time.monotonic() - began
        record.not_held += control.problems(server.server)
    record.figures = {
        "answered_in_time": ends["answered"],
        "begun_and_ended": ends["begun"],
        "not_begun": ends["not begun"],
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
