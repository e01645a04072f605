"""SIGTERM to a server under load, again and again: health turns first, and no answer that was cut passes for
a whole one.

python -m tests.chaos.graceful_stop [--stops 50] [--short] [--out FILE]

Every other server has a grace period in which running calls end by themselves; the others cut them. All of
them share one data folder, so jobs that one was stopped in are done by the next.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    options_pb2,
    upscaler_pb2,
    upscaler_pb2_grpc,
)

_STREAMED = [(400, 300), (240, 400), (160, 120)]
_UNARY = [(48, 32), (64, 64)]
_LONGEST_LIFE_SECONDS = 1.5
_WAIT_SECONDS = 60.0
_GRACE_SECONDS, _NO_GRACE_SECONDS = "25", "0.05"
# The watcher of health and the callers are threads of one process here, which take turns.
_TURN_SECONDS = 0.1
_REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@dataclass
class Seen:
    """What callers saw of one server. `begun` are calls whose first event had come before the signal; times
    are of the monotonic clock."""

    signal_at: float = float("inf")
    not_serving_at: float = float("inf")
    refused_at: float = float("inf")
    whole: int = 0
    cut: int = 0
    begun_and_cut: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def _stream(channel: grpc.Channel, size: tuple[int, int], begun: Callable[[], None]) -> bytes:
    """The file of an image, with nothing in between that would notice what is missing. Empty where the server
    itself did not say that it was done."""

    def messages() -> Iterator[upscaler_pb2.UpscaleStreamRequest]:
        options = options_pb2.UpscaleOptions(model=FAST)
        yield upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart(options=options))
        yield upscaler_pb2.UpscaleStreamRequest(chunk=picture(*size))

    data, done = bytearray(), False
    for event in upscaler_pb2_grpc.UpscalerStub(channel).UpscaleStream(messages(), timeout=_WAIT_SECONDS):
        begun()
        data += event.chunk.data
        done = event.HasField("done")
    return bytes(data) if done else b""


def _unary(channel: grpc.Channel, size: tuple[int, int], _begun: Callable[[], None]) -> bytes:
    request = upscaler_pb2.UpscaleRequest(
        source=options_pb2.Source(image=picture(*size)), options=options_pb2.UpscaleOptions(model=FAST)
    )
    answer = upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, timeout=_WAIT_SECONDS)
    return answer.outputs[0].data


def _download(output_id: str) -> Callable[[grpc.Channel, tuple[int, int], Callable[[], None]], bytes]:
    def download(channel: grpc.Channel, _size: tuple[int, int], begun: Callable[[], None]) -> bytes:
        request = blobs_pb2.DownloadOutputRequest(output_id=output_id)
        data = bytearray()
        for body in blobs_pb2_grpc.BlobsStub(channel).DownloadOutput(request, timeout=_WAIT_SECONDS):
            begun()
            data += body.data
        return bytes(data)

    return download


Call = Callable[[grpc.Channel, tuple[int, int], Callable[[], None]], bytes]


@dataclass
class Load:
    """Callers of all kinds, each with what its answer must be."""

    kinds: list[tuple[Call, tuple[int, int], str]]

    def put_on(self, server: RunningServer, seen: Seen) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._call, args=(server, kind, seen)) for kind in self.kinds]
        threads.append(threading.Thread(target=_watch_health, args=(server, seen)))
        for thread in threads:
            thread.start()
        return threads

    def _call(self, server: RunningServer, kind: tuple[Call, tuple[int, int], str], seen: Seen) -> None:
        """Again and again, until refused."""
        call, size, expected = kind
        with grpc.insecure_channel(server.address) as channel:
            while True:
                first = [float("inf")]

                def begun(first: list[float] = first) -> None:
                    first[0] = min(first[0], time.monotonic())

                try:
                    found = hashlib.sha256(call(channel, size, begun)).hexdigest()
                except grpc.RpcError as error:
                    _note_refusal(seen, error.code(), first[0])
                    return
                with seen.lock:
                    seen.whole += 1
                    if found != expected:
                        seen.wrong.append(f"{call.__name__} of {size} was OK with other bytes")


def _note_refusal(seen: Seen, code: grpc.StatusCode, first: float) -> None:
    with seen.lock:
        seen.codes[code.name] += 1
        seen.refused_at = min(seen.refused_at, time.monotonic())
        seen.cut += first < float("inf")
        seen.begun_and_cut += first < seen.signal_at
        if code not in _REFUSED:
            seen.wrong.append(f"refused with {code.name}")


def _watch_health(server: RunningServer, seen: Seen) -> None:
    with grpc.insecure_channel(server.address) as channel, suppress(grpc.RpcError):
        stub, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
        for answer in stub.Watch(request, timeout=_WAIT_SECONDS):
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                seen.not_serving_at = min(seen.not_serving_at, time.monotonic())


def _make_job(server: RunningServer, number: int) -> str:
    with grpc.insecure_channel(server.address) as channel:
        request = jobs_pb2.CreateJobRequest(
            source=options_pb2.Source(image=picture(320, 200)),
            options=options_pb2.UpscaleOptions(model=FAST),
            request_id=f"stop-{number}",
        )
        return jobs_pb2_grpc.JobsStub(channel).CreateJob(request, timeout=30).id


def _ended(server: RunningServer, job_id: str) -> jobs_pb2.Job:
    with grpc.insecure_channel(server.address) as channel:
        request = jobs_pb2.WatchJobRequest(job_id=job_id)
        return list(jobs_pb2_grpc.JobsStub(channel).WatchJob(request, timeout=120))[-1].job


def _stop_one(folder: Path, load: Load, number: int, wait_seconds: float) -> tuple[Seen, str, float]:
    """What callers saw of one server that was stopped, the job it had, and the seconds that it took to
    end."""
    has_grace, seen = number % 2 == 0, Seen()
    grace = _GRACE_SECONDS if has_grace else _NO_GRACE_SECONDS
    with running_server(UPSCALED_DATA_DIR=str(folder), UPSCALED_GRACE_SECONDS=grace) as server:
        job = _make_job(server, number)
        threads = load.put_on(server, seen)
        time.sleep(wait_seconds)
        seen.signal_at = time.monotonic()
        status = server.stop()
        seconds = time.monotonic() - seen.signal_at
        for thread in threads:
            thread.join(_WAIT_SECONDS)
    if any(thread.is_alive() for thread in threads):
        seen.wrong.append("a call never ended")
    if status:
        seen.wrong.append(f"the server ended with {status}")
    if seen.not_serving_at > seen.refused_at + _TURN_SECONDS:
        seen.wrong.append("a call was refused before health had turned")
    if has_grace and seen.begun_and_cut:
        seen.wrong.append(f"{seen.begun_and_cut} running calls were cut within the grace period")
    return seen, job, seconds


def _run(folder: Path, stops: int, chance: random.Random, record: Record) -> None:
    with (
        running_server(UPSCALED_DATA_DIR=str(folder)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stored = _ended(server, _make_job(server, -1)).result.outputs[0]
        control = Control(server)
        kinds: list[tuple[Call, tuple[int, int]]] = [
            *((_stream, size) for size in _STREAMED),
            *((_unary, size) for size in _UNARY),
            (_download(stored.id), (0, 0)),
        ]
        load = Load(
            [(call, size, hashlib.sha256(call(channel, size, int)).hexdigest()) for call, size in kinds]
        )
    jobs, took, whole, cut = list[str](), list[float](), 0, 0
    codes: Counter[str] = Counter()
    for number in range(stops):
        seen, job, seconds = _stop_one(folder, load, number, chance.uniform(0.1, _LONGEST_LIFE_SECONDS))
        record.tried += 1
        record.held += not seen.wrong
        record.not_held += seen.wrong
        jobs.append(job)
        took.append(seconds)
        whole, cut, codes = whole + seen.whole, cut + seen.cut, codes + seen.codes
    with running_server(UPSCALED_DATA_DIR=str(folder)) as server:
        states = Counter(jobs_pb2.JobState.Name(_ended(server, job).state) for job in jobs)
        if states != {"JOB_STATE_SUCCEEDED": stops}:
            record.not_held.append(f"jobs ended as {dict(states)}")
        record.not_held += control.problems(server)
    record.figures = {
        "whole_answers": whole,
        "answers_cut": cut,
        **{f"ended_{code}": count for code, count in sorted(codes.items())},
        "jobs_done": states["JOB_STATE_SUCCEEDED"],
        "longest_until_ended_seconds": max(took),
    }


def main() -> int:
    parser = arguments("graceful_stop", __doc__.split("\n")[0])
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    record = Record(
        "graceful_stop",
        "Graceful stop",
        "SIGTERM to a server that streams, answers, serves downloads and runs a job, every other time with a "
        "grace period of 25 s and of 0.05 s; every answer that ended with OK is compared byte by byte",
        options.short,
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upscaled-stops-") as folder:
        _run(Path(folder), 4 if options.short else options.stops, random.Random(options.seed), record)
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
