"""Callers that leave at random moments, while their image waits and while it is computed.

python -m tests.chaos.client_leaves [--times 200] [--short] [--out FILE]
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from tests.chaos.device_work import batches_after, device_seconds, too_many
from tests.chaos.http2 import Peer, framed
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.ports import free_address
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled.v1 import (
    jobs_pb2,
    jobs_pb2_grpc,
    options_pb2,
    upscaler_pb2,
    upscaler_pb2_grpc,
)

_LANES = 4
_LONGEST_SECONDS = 1.5
_SOURCE = options_pb2.Source(image=picture(640, 448))
_OPTIONS = options_pb2.UpscaleOptions(model=FAST)
_ENDED = (jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED)

# Begins an image, waits for so many seconds, leaves; False where the image was done before.
Way = Callable[[KeyedServer, str, float], bool]


def cancel_answer(server: KeyedServer, key: str, seconds: float) -> bool:
    with grpc.insecure_channel(server.address) as channel:
        request = upscaler_pb2.UpscaleRequest(source=_SOURCE, options=_OPTIONS)
        call = upscaler_pb2_grpc.UpscalerStub(channel).Upscale.future(
            request, metadata=bearer(key), timeout=60
        )
        time.sleep(seconds)
        return bool(call.cancel())


def cancel_stream(server: KeyedServer, key: str, seconds: float) -> bool:
    """It reads what comes until then."""
    with grpc.insecure_channel(server.address) as channel:
        request = upscaler_pb2.UpscaleTilesRequest(source=_SOURCE, options=_OPTIONS)
        call = upscaler_pb2_grpc.UpscalerStub(channel).UpscaleTiles(request, metadata=bearer(key), timeout=60)
        leaving = threading.Timer(seconds, call.cancel)
        leaving.start()
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.CANCELLED
        finally:
            leaving.cancel()
            leaving.join()
    return False


def drop_connection(server: KeyedServer, key: str, seconds: float) -> bool:
    """Without a word of HTTP/2."""
    request = upscaler_pb2.UpscaleTilesRequest(source=_SOURCE, options=_OPTIONS)
    until = time.monotonic() + seconds
    with Peer(server.address) as peer:
        stream = peer.begin("/upscaled.v1.Upscaler/UpscaleTiles", *bearer(key))
        peer.send_all(stream, framed(request.SerializeToString()))
        peer.wait(stream, until - time.monotonic())
        return peer.running(stream)


def cancel_job(server: KeyedServer, key: str, seconds: float) -> bool:
    with grpc.insecure_channel(server.address) as channel:
        jobs = jobs_pb2_grpc.JobsStub(channel)
        request = jobs_pb2.CreateJobRequest(source=_SOURCE, options=_OPTIONS)
        job = jobs.CreateJob(request, metadata=bearer(key), timeout=60)
        time.sleep(seconds)
        job = jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.id), metadata=bearer(key), timeout=60)
        return job.state not in _ENDED


_WAYS: tuple[Way, ...] = (cancel_answer, cancel_stream, drop_connection, cancel_job)


def _lane(
    server: KeyedServer, metrics: str, number: int, times: int, record: Record, moments: Counter[str]
) -> None:
    """One caller that leaves so many times. Each lane is the load of the others."""
    chance, caller = random.Random(number), f"leaver-{number}"
    key = server.make_key(caller)
    done = 0
    while done < times:
        way = _WAYS[done % len(_WAYS)]
        before = device_seconds(metrics, caller)
        if not way(server, key, chance.uniform(0.0, _LONGEST_SECONDS)):
            moments["after the end"] += 1
            continue
        left = time.monotonic()
        moments["computed" if device_seconds(metrics, caller) > before else "queued"] += 1
        ended = batches_after(metrics, caller, left)
        done += 1
        if too_many(ended):
            shown = ", ".join(f"{each:.2f}" for each in ended)
            record.not_held.append(f"after {way.__name__} batches ended at {shown} s")
        else:
            record.held += 1


def main() -> int:
    parser = arguments("client_leaves", __doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=200)
    options = parser.parse_args()
    times = 16 if options.short else options.times
    record = Record(
        "client_leaves",
        "Client leaves",
        f"{times} images left at random moments by {_LANES} callers at once on a server with one place: "
        "calls and streams cancelled, connections dropped, jobs cancelled; no batch is computed for the "
        "caller after 500 ms but one that was begun",
        options.short,
        tried=times,
    )
    metrics = free_address()
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name,
        keyed_server(Path(name), UPSCALED_METRICS_LISTEN=metrics, UPSCALED_MAX_OPEN_RUNS="1") as server,
    ):
        key = server.make_key("control")
        cancel_job(server, key, 0.5)  # the first job opens files that stay open
        control = Control(server.server, key)
        began, moments = time.monotonic(), Counter[str]()
        with ThreadPoolExecutor(_LANES) as lanes:
            running = [
                lanes.submit(_lane, server, metrics, number, times // _LANES, record, moments)
                for number in range(_LANES)
            ]
            for each in running:
                each.result()
        record.seconds = time.monotonic() - began
        record.not_held += control.problems(server.server)
        record.not_held += [] if moments["queued"] and moments["computed"] else ["not both moments were met"]
    record.figures = {
        "left_while_queued": moments["queued"],
        "left_while_computed": moments["computed"],
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
