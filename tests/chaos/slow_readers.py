"""Readers of results that take a kilobyte a second.

python -m tests.chaos.slow_readers [--readers 50] [--short] [--out FILE]

In raw frames: the gRPC library reads ahead. Half of them read an image while it is made, half one that is
stored.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.chaos.http2 import Peer, framed
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.sampling import RssSampler
from upscaled.v1 import blobs_pb2, jobs_pb2, jobs_pb2_grpc, options_pb2, upscaler_pb2

_BYTES_PER_SECOND = 1000
_MOST_RSS_GROWTH_BYTES = 200 << 20
# gRPC opens the window of a stream to 64 KiB by itself; the rest is given out.
_SIZE = (1000, 750)
_OPTIONS = options_pb2.UpscaleOptions(model=FAST)
_GIVEN_UP = ("1", "4", "reset")  # CANCELLED, DEADLINE_EXCEEDED, or the stream was cut


def stored(server: KeyedServer, key: str) -> str:
    """The output of a job on the same picture."""
    with grpc.insecure_channel(server.address) as channel:
        job = jobs_pb2_grpc.JobsStub(channel).CreateJob(
            jobs_pb2.CreateJobRequest(
                source=options_pb2.Source(image=picture(*_SIZE)),
                options=_OPTIONS,
                wait=Duration(seconds=110),
            ),
            metadata=bearer(key),
            timeout=120,
        )
    return job.result.outputs[0].id


def read_slowly(server: KeyedServer, key: str, output_id: str, readers: int, seconds: float) -> list[Peer]:
    """Each on a connection of its own, of which it lets the server fill only so much."""
    upscale = framed(
        upscaler_pb2.UpscaleTilesRequest(
            source=options_pb2.Source(image=picture(*_SIZE)), options=_OPTIONS
        ).SerializeToString()
    )
    download = framed(blobs_pb2.DownloadOutputRequest(output_id=output_id).SerializeToString())
    with ExitStack() as stack:
        reading = []
        for number in range(readers):
            peer = stack.enter_context(Peer(server.address, greedy=False))
            made = number % 2 == 0
            path = "Upscaler/UpscaleTiles" if made else "Blobs/DownloadOutput"
            stream = peer.begin(f"/upscaled.v1.{path}", *bearer(key))
            peer.send_all(stream, upscale if made else download)
            reading.append((peer, stream))
        began, second = time.monotonic(), 0
        while time.monotonic() - began < seconds and any(peer.open for peer, _ in reading):
            for peer, stream in reading:
                if peer.running(stream):
                    peer.grant(stream, _BYTES_PER_SECOND)
                    peer.flush()
            second += 1
            while time.monotonic() < began + second:
                for peer, _ in reading:
                    peer.poll(0.005)
        return [peer for peer, _ in reading]


def main() -> int:
    parser = arguments("slow_readers", __doc__.split("\n")[0])
    parser.add_argument("--readers", type=int, default=50)
    options = parser.parse_args()
    readers, seconds = (6, 8.0) if options.short else (options.readers, 120.0)
    record = Record(
        "slow_readers",
        "Queue growth",
        f"{readers} readers at {_BYTES_PER_SECOND} bytes a second for {seconds:g} s, half of a "
        f"{_SIZE[0] * 4}x{_SIZE[1] * 4} image while it is made and half of one that is stored: RSS at most "
        f"{_MOST_RSS_GROWTH_BYTES >> 20} MiB more; given up, or served on",
        options.short,
        tried=readers,
    )
    with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name, keyed_server(Path(name)) as server:
        key = server.make_key("slow")
        output_id = stored(server, key)
        control = Control(server.server, key)
        began = time.monotonic()
        with RssSampler(server.server.process.pid) as rss:
            peers = read_slowly(server, key, output_id, readers, seconds)
        record.seconds = time.monotonic() - began
        record.not_held += control.problems(server.server)
    answers = [answer for peer in peers for answer in peer.answers.values()]
    ends = Counter("served on" if answer.status is None else answer.status for answer in answers)
    for answer in answers:
        if (answer.status is None and answer.received_bytes) or answer.status in _GIVEN_UP:
            record.held += 1
        else:
            record.not_held.append(f"a reader's call ended with {answer.status}: {answer.message}")
    if rss.growth_bytes > _MOST_RSS_GROWTH_BYTES:
        record.not_held.append(f"RSS grew by {rss.growth_bytes >> 20} MiB")
    record.figures = {
        "served_on": ends["served on"],
        "given_up": readers - ends["served on"],
        "read_bytes": sum(answer.received_bytes for answer in answers),
        "rss_growth_mib": rss.growth_bytes / (1 << 20),
    }
    record.series = {"rss_bytes": rss.series}
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
