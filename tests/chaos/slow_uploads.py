"""Hundreds of uploads at one byte a second, in every rpc that takes an image piece by piece.

python -m tests.chaos.slow_uploads [--streams 500] [--short] [--out FILE]

All of them are let in: neither the caller's own limit nor the server's number of calls is what stops them.
Beside them a good caller goes on calling.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc

from tests.benchmarks.load_traffic import percentile
from tests.chaos.http2 import Peer, framed
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.sampling import RssSampler
from upscaled import Client, UpscaledError
from upscaled.v1 import blobs_pb2, blobs_pb2_grpc, options_pb2, upscaler_pb2

_PER_CONNECTION = 100
_SLACK_SECONDS = 5.0  # the server lets a caller finish what it is sending
_ALONE_SECONDS = 15.0
_OPTIONS = options_pb2.UpscaleOptions(model=FAST)
_DEADLINE_EXCEEDED = "4"

# What is sent in every second of one upload.
Trickle = Callable[[int], bytes]


def in_messages(message: Callable[[bytes], bytes], first: bytes = b"") -> Trickle:
    """Whole messages with one byte each."""
    return lambda second: first if first and not second else framed(message(b"\x89"))


def in_one_message(message: bytes) -> Trickle:
    """A message that never comes to its end."""
    data = framed(message)
    return lambda second: data[:20] if not second else data[19 + second : 20 + second]


def _stream_chunk(data: bytes) -> bytes:
    return upscaler_pb2.UpscaleStreamRequest(chunk=data).SerializeToString()


def _file_piece(data: bytes) -> bytes:
    piece = upscaler_pb2.UpscaleFileRequest(options=_OPTIONS)
    piece.content.data = data
    return piece.SerializeToString()


def _write(input_id: str, data: bytes) -> bytes:
    request = blobs_pb2.WriteInputRequest(input_id=input_id)
    request.content.data = data
    return request.SerializeToString()


def ways(server: KeyedServer, key: str, count: int) -> list[tuple[str, Trickle]]:
    """A path and what to send, for each stream."""
    start = upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart(options=_OPTIONS))
    begun = framed(start.SerializeToString())
    found: list[tuple[str, Trickle]] = []
    with grpc.insecure_channel(server.address) as channel:
        blobs = blobs_pb2_grpc.BlobsStub(channel)
        for number in range(count):
            match number % 5:
                case 0:
                    way = "Upscaler/UpscaleStream", in_messages(_stream_chunk, begun)
                case 1:
                    way = "Upscaler/UpscaleStream", in_one_message(_stream_chunk(bytes(65536)))
                case 2:
                    way = "Upscaler/UpscaleFile", in_messages(_file_piece)
                case kind:
                    made = blobs.CreateInput(blobs_pb2.CreateInputRequest(), metadata=bearer(key), timeout=30)
                    whole = in_one_message(_write(made.id, bytes(65536)))
                    pieces = in_messages(lambda data, made=made: _write(made.id, data))  # type: ignore[misc]
                    way = "Blobs/WriteInput", whole if kind == 3 else pieces
            found.append((f"/upscaled.v1.{way[0]}", way[1]))
    return found


def _warm(server: KeyedServer, key: str) -> None:
    """Files that are written at once need threads, which stay."""

    def write(_: int) -> None:
        made = blobs.CreateInput(blobs_pb2.CreateInputRequest(), metadata=bearer(key), timeout=30)
        request = blobs_pb2.WriteInputRequest.FromString(_write(made.id, bytes(1 << 20)))
        blobs.WriteInput(iter([request]), metadata=bearer(key), timeout=30)

    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(32) as writers:
        blobs = blobs_pb2_grpc.BlobsStub(channel)
        list(writers.map(write, range(64)))


class GoodCaller:
    """Upscales one small image after the other."""

    def __init__(self, server: KeyedServer, key: str) -> None:
        self._server, self._key = server, key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def __enter__(self) -> GoodCaller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _call(self) -> None:
        with Client(self._server.address, api_key=self._key, timeout=60, retries=0) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    client.upscale(picture(48, 32), model=FAST)
                except UpscaledError as error:
                    self.failures.append(repr(error))
                self.seconds.append(time.monotonic() - began)


def trickle(server: KeyedServer, key: str, uploads: list[tuple[str, Trickle]], longest: float) -> list[Peer]:
    """Until all have been ended, or for `longest` seconds."""
    with ExitStack() as stack:
        peers = [
            stack.enter_context(Peer(server.address)) for _ in range(-(-len(uploads) // _PER_CONNECTION))
        ]
        streams = [
            (peer := peers[number // _PER_CONNECTION], peer.begin(path, *bearer(key)), send)
            for number, (path, send) in enumerate(uploads)
        ]
        began, second = time.monotonic(), 0
        while time.monotonic() - began < longest and any(peer.open for peer in peers):
            for peer, stream, send in streams:
                if peer.running(stream):
                    peer.send(stream, send(second))
            second += 1
            for peer in peers:
                peer.flush()
            while time.monotonic() < began + second:
                for peer in peers:
                    peer.poll(0.02)
        return peers


def main() -> int:
    parser = arguments("slow_uploads", __doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=500)
    options = parser.parse_args()
    count, idle = (50, 5.0) if options.short else (options.streams, 30.0)
    single, longest_single = (2, 8.0) if options.short else (10, 60.0)
    record = Record(
        "slow_uploads",
        "Slow uploads",
        f"{count} uploads at 1 byte a second by one caller, as messages of one byte and as one message that "
        f"does not end, all let in: each ended within {idle:g} s and what the caller may take to stop; "
        f"{single} messages of unary calls, allowed {longest_single:g} s here; a good caller's p99 at most "
        "doubles",
        options.short,
        tried=count + single,
    )
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name,
        keyed_server(
            Path(name),
            UPSCALED_MAX_CALLS=str(2 * count + 100),
            UPSCALED_UPLOAD_IDLE_SECONDS=str(idle),
            UPSCALED_MAX_MESSAGE_SECONDS=str(longest_single),
        ) as server,
    ):
        slow = server.make_key("slow", max_concurrent=2 * count)
        good = server.make_key("good")
        _warm(server, good)
        control = Control(server.server, good)
        # Before and after, since other work of the machine comes and goes.
        alone_seconds = 3.0 if options.short else _ALONE_SECONDS
        with GoodCaller(server, good) as before:
            time.sleep(alone_seconds)
        request = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=bytes(65536)))
        whole = in_one_message(request.SerializeToString())
        uploads = ways(server, slow, count)
        uploads += [("/upscaled.v1.Upscaler/Upscale", whole)] * single
        began = time.monotonic()
        with RssSampler(server.server.process.pid) as rss, GoodCaller(server, good) as beside:
            peers = trickle(server, slow, uploads, max(idle, longest_single) + 2 * _SLACK_SECONDS)
        record.seconds = time.monotonic() - began
        with GoodCaller(server, good) as after:
            time.sleep(alone_seconds)
        record.not_held += control.problems(server.server)
    answers = [answer for peer in peers for answer in peer.answers.values()]
    allowed = [idle + _SLACK_SECONDS] * count + [longest_single + _SLACK_SECONDS] * single
    for answer, longest in zip(answers, allowed, strict=True):
        record.held += answer.status == _DEADLINE_EXCEEDED and answer.seconds <= longest
    if record.held < record.tried:
        ends = Counter(answer.status or "not ended" for answer in answers)
        record.not_held.append(f"the uploads ended with {dict(ends)}")
    failures = [*before.failures, *beside.failures, *after.failures]
    record.not_held += [f"a good call failed: {each}" for each in failures]
    p99s = [percentile(each, 0.99) for each in ([*before.seconds, *after.seconds], beside.seconds)]
    if p99s[1] > 2 * p99s[0]:
        record.not_held.append(f"a good caller's p99 went from {p99s[0] * 1e3:.0f} to {p99s[1] * 1e3:.0f} ms")
    record.figures = {
        "last_stream_ended_after_s": max(answer.seconds for answer in answers[:count]),
        "last_single_message_ended_after_s": max(answer.seconds for answer in answers[count:]),
        "good_p99_alone_ms": p99s[0] * 1e3,
        "good_p99_beside_ms": p99s[1] * 1e3,
        "good_p99_ratio": p99s[1] / p99s[0],
        "good_calls_beside": len(beside.seconds),
        "rss_growth_mib": rss.growth_bytes / (1 << 20),
    }
    record.series = {"rss_bytes": rss.series}
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
