"""Messages that are too large, too deep, too many or no protobuf, and metadata without end, on every rpc.

python -m tests.chaos.protobuf [--short] [--out FILE]
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import h2.exceptions
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from tests.chaos.http2 import CONTINUATION, HEADERS, Peer, frame, framed, headers_of, literal
from tests.chaos.requests import Place, Things, places, right, things
from tests.e2e.keyed import KeyedServer, bearer, keyed_server
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.rpcs import methods, path_of, status_of
from tests.reliability.sampling import RssSampler

_MOST_RSS_GROWTH_BYTES = 50 << 20
_MILLION = 1_000_000
_MEBIBYTE = 1 << 20
_PASSES = 2
_ANSWER_SECONDS = 30.0
_LONGEST_HALF_OPEN_SECONDS = 45.0
# Statuses as numbers: UNKNOWN, INTERNAL.
_UNCLEAN = ("2", "13")


def messages(method: MethodDescriptor, there: Things, *, short: bool) -> Iterator[tuple[str, bytes]]:
    """What it is, and its bytes. A million of each thing, in the short form a tenth."""
    count = _MILLION // 10 if short else _MILLION
    good = right(method, there).SerializeToString()
    start, stop = b"\xfb\x3f", b"\xfc\x3f"  # a group with the number 1023, which no message has
    yield "unknown numbers", good + b"\xf8\x3f\x01" * count
    yield "unknown bytes", good + b"\xfa\x3f\x00" * count
    yield "groups that end", good + start * (count // 2) + stop * (count // 2)
    yield "groups that do not end", good + start * count
    yield "groups within the depth that is allowed", good + (start * 90 + stop * 90) * (count // 180)
    yield "a field number of 0", good + b"\x00\x01"
    yield "a type that there is not", good + b"\xff\x3f"
    yield "a number that does not end", good + b"\xf8\x3f" + b"\xff" * 11
    yield "bytes beyond the end", good + b"\xfa\x3f\xff\xff\xff\xff\x07"
    yield "noise", bytes(range(256)) * 64
    for place in places(method.input_type):
        if place.field.is_repeated or any(field.is_repeated for field in place.fields):
            yield f"{place.name} again and again", good + _repeated(place, count)


def _repeated(place: Place, count: int) -> bytes:
    """`count` empty values of the first repeated field on the way, each under keys of its own in a map."""
    depth = next(number for number, field in enumerate(place.fields) if field.is_repeated)
    field = place.fields[depth]
    kind = field.type
    if kind == FieldDescriptor.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
        tag = _tag(field, 2)
        data = b"".join(b"%b\x07\x0a\x05%05x" % (tag, number) for number in range(count))
    else:
        wire, value = (2, b"\x00") if kind in _WITH_LENGTH else (0, b"\x01")
        data = (_tag(field, wire) + value) * count
    for outer in reversed(place.fields[:depth]):
        data = _tag(outer, 2) + _varint(len(data)) + data
    return data


_WITH_LENGTH = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)


def _tag(field: FieldDescriptor, wire: int) -> bytes:
    return _varint(field.number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Attempts:
    """Counts what is tried, and what has no clean end."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.ends: Counter[str] = Counter()

    def note(self, what: str, status: str, said: str = "") -> None:
        self._record.tried += 1
        self.ends[status] += 1
        if status in ("", "UNKNOWN", "INTERNAL", *_UNCLEAN):
            self._record.not_held.append(f"{what} ended {status or 'not at all'}: {said[:200]}")
        else:
            self._record.held += 1


def in_library(server: KeyedServer, there: Things, attempts: Attempts, *, short: bool) -> None:
    """What the gRPC library is ready to send."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        for method in methods():
            cases = [*messages(method, there, short=short), ("66 MiB", bytes(66 * _MEBIBYTE))]
            for what, data in cases:
                status, said = status_of(channel, method, data, bearer(there.key), timeout=_ANSWER_SECONDS)
                late = status is grpc.StatusCode.DEADLINE_EXCEEDED
                attempts.note(f"{method.name} with {what}", "" if late else status.name, said)


def in_frames(server: KeyedServer, there: Things, attempts: Attempts, *, short: bool) -> None:
    """What it is not."""
    key = ("authorization", f"Bearer {there.key}")
    bombs = {
        f"{size} MiB behind gzip": framed(gzip.compress(bytes(size * _MEBIBYTE), 1), compressed=True)
        for size in (60, 300)
    }
    cases: dict[str, Callable[[Peer, int], None]] = {
        "4 GiB announced": lambda peer, stream: peer.send(stream, b"\0\xff\xff\xff\xff" + bytes(1000)),
        "a flag that there is not": lambda peer, stream: peer.send(stream, b"\x07\0\0\0\x01x", end=True),
        "a header of a message and nothing else": lambda peer, stream: peer.send(
            stream, b"\0\0\0\0\x05", end=True
        ),
        "half a message": lambda peer, stream: peer.send(stream, b"\0\0\0\0\x05xx", end=True),
    }
    for method in methods()[:: 8 if short else 1]:
        path = path_of(method)
        for what, send in cases.items():
            with Peer(server.address) as peer:
                stream = peer.begin(path, key)
                send(peer, stream)
                _note(attempts, f"{method.name} with {what}", peer, stream)
        for what, data in bombs.items():
            with Peer(server.address) as peer:
                stream = peer.begin(path, key, ("grpc-encoding", "gzip"))
                peer.send_all(stream, data, seconds=_ANSWER_SECONDS)
                _note(attempts, f"{method.name} with {what}", peer, stream)
        for what, more in {
            "20 kB in a header": [("x-large", "x" * 20_000)],
            "1 MB in a header": [("x-large", "x" * 1_000_000)],
            "5000 headers": [(f"x-{number}", "x") for number in range(5000)],
        }.items():
            with Peer(server.address) as peer:
                stream = peer.begin_plainly(path, key, *more)
                _note(attempts, f"{method.name} with {what}", peer, stream)
    _headers_without_end(server.address, attempts, frames=1000 if short else 20_000)


def _note(attempts: Attempts, what: str, peer: Peer, stream: int) -> None:
    peer.flush()
    answer = peer.wait(stream, _ANSWER_SECONDS)
    attempts.note(what, answer.status or "", answer.message)


def _headers_without_end(address: str, attempts: Attempts, frames: int) -> None:
    """CONTINUATION after CONTINUATION, each of 16 KiB, and never the last."""
    with Peer(address) as peer:
        try:
            peer.sock.sendall(frame(HEADERS, 0, 1, literal(headers_of("/upscaled.v1.Server/GetServerInfo"))))
            for _ in range(frames):
                peer.sock.sendall(frame(CONTINUATION, 0, 1, literal([("x-more", "x" * 16_000)])))
            # Pings go on, which a peer that is within its headers cannot answer.
            until = time.monotonic() + _LONGEST_HALF_OPEN_SECONDS
            while not peer.lost and time.monotonic() < until:
                peer.poll(1.0)
            status = "connection closed" if peer.lost else ""
        except (OSError, h2.exceptions.ProtocolError):
            status = "connection closed"
        attempts.note(f"{frames} CONTINUATION frames", status, "the server takes more and more of it")


def main() -> int:
    parser = arguments("protobuf", __doc__.split("\n")[0])
    options = parser.parse_args()
    record = Record(
        "protobuf",
        "Protobuf",
        "messages above the limit, a million unknown fields, groups and repeated fields, what is no "
        "protobuf, gzip bombs, announced lengths that do not come, metadata without end, twice "
        f"on every rpc: never INTERNAL, UNKNOWN or nothing within {_ANSWER_SECONDS:g} s",
        options.short,
    )
    with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name, keyed_server(Path(name)) as server:
        there = things(server, "protobuf")
        control = Control(server.server, there.key)
        began, attempts = time.monotonic(), Attempts(record)
        growths = []
        for _ in range(_PASSES):
            with RssSampler(server.server.process.pid, 0.05) as rss:
                in_library(server, there, attempts, short=options.short)
                in_frames(server, there, attempts, short=options.short)
            growths.append(rss.growth_bytes)
        record.seconds = time.monotonic() - began
        record.not_held += control.problems(server.server)
        if "Traceback" in server.log.read_text(errors="replace"):
            record.not_held.append("a traceback is in the log")
    if growths[-1] > _MOST_RSS_GROWTH_BYTES:
        record.not_held.append(f"in the last pass RSS grew by {growths[-1] >> 20} MiB")
    if growths[0] > _MOST_RSS_GROWTH_BYTES:
        record.not_held.append(
            f"on a server that had seen small messages only RSS grew by {growths[0] >> 20} MiB; done again, "
            f"by {growths[-1] >> 20} MiB more"
        )
    record.figures = {
        "rss_growth_first_mib": growths[0] / _MEBIBYTE,
        "rss_growth_again_mib": growths[-1] / _MEBIBYTE,
        **{f"ended_{status.lower()}": count for status, count in sorted(attempts.ends.items())},
    }
    record.series = {"rss_bytes": rss.series}
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
