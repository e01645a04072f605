"""Calls in raw HTTP/2 frames, for what the gRPC library is too polite to do."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

Header = tuple[str, str]

HEADERS, CONTINUATION = 1, 9
END_STREAM, END_HEADERS = 1, 4
_FRAME_BYTES = 16_384

UPSCALE_STREAM = "/upscaled.v1.Upscaler/UpscaleStream"


def headers_of(path: str, *more: Header) -> list[Header]:
    """The headers of a gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """A message as gRPC puts it into a stream."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(headers: list[Header]) -> bytes:
    """A block of headers as they are: what compresses them takes minutes for a megabyte."""
    return b"".join(
        b"\0" + b"".join(_length(len(text)) + text.encode() for text in header) for header in headers
    )


def _length(value: int) -> bytes:
    """HPACK's integer of 7 bits."""
    if value < 127:
        return bytes([value])
    out, value = bytearray([127]), value - 127
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def connected(address: str) -> tuple[socket.socket, h2.connection.H2Connection]:
    """A connection whose preface is not sent yet."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    return sock, connection


@dataclass(slots=True)
class Answer:
    """Of one call. `status` is gRPC's as text, "reset" where the stream was cut; None while it runs."""

    began: float
    status: str | None = None
    seconds: float = 0.0
    message: str = ""
    received_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Peer:
    """One connection with any number of calls, for one thread. What it is sent it takes no more of than
    `grant` allows, if it was made with `greedy=False`."""

    def __init__(self, address: str, *, greedy: bool = True) -> None:
        self.sock, self.connection = connected(address)
        self._greedy = greedy
        self.answers: dict[int, Answer] = {}
        self.lost = False
        self.flush()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def begin(self, path: str, *more: Header, end: bool = False) -> int:
        """A call without anything of its message; its stream."""
        stream: int = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, headers_of(path, *more), end_stream=end)
        self.answers[stream] = Answer(time.monotonic())
        return stream

    def begin_plainly(self, path: str, *more: Header) -> int:
        """A whole call with an empty message, its headers as they are; the first of its connection."""
        block = literal(headers_of(path, *more))
        pieces = [block[at : at + _FRAME_BYTES] for at in range(0, len(block), _FRAME_BYTES)]
        # Of this connection's own books, which else would not know the stream.
        stream = self.begin(path, end=True)
        self.connection.data_to_send()
        last = len(pieces) - 1
        data = b"".join(
            frame(
                CONTINUATION if number else HEADERS,
                (END_HEADERS if number == last else 0) | (0 if number else END_STREAM),
                stream,
                piece,
            )
            for number, piece in enumerate(pieces)
        )
        try:
            self.sock.sendall(data)
        except OSError:
            self._lose()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Within what the server takes at once."""
        self.connection.send_data(stream, data, end_stream=end)

    def send_all(self, stream: int, data: bytes, *, seconds: float = 60.0) -> None:
        """As the server takes it; the end of the caller's side. Stops where the call ends before."""
        until, sent = time.monotonic() + seconds, 0
        while sent < len(data) and self.running(stream) and time.monotonic() < until:
            room = min(
                self.connection.local_flow_control_window(stream),
                self.connection.max_outbound_frame_size,
                len(data) - sent,
            )
            if room:
                self.connection.send_data(stream, data[sent : sent + room])
                sent += room
            self.flush()
            self.poll(0.0 if room else 0.1)
        if self.running(stream):
            self.connection.end_stream(stream)
            self.flush()

    def grant(self, stream: int, count: int) -> None:
        """Let the server send so many more bytes of a call."""
        self.connection.increment_flow_control_window(count, stream)
        self.connection.increment_flow_control_window(count)

    def running(self, stream: int) -> bool:
        return not self.lost and self.answers[stream].status is None

    @property
    def open(self) -> list[int]:
        return [stream for stream in self.answers if self.running(stream)]

    def flush(self) -> None:
        if not self.lost and (data := self.connection.data_to_send()):
            try:
                self.sock.sendall(data)
            except OSError:
                self._lose()

    def poll(self, seconds: float) -> None:
        """Takes what the server says within `seconds`, or all that is there already."""
        while not self.lost and select.select([self.sock], [], [], seconds)[0]:
            seconds = 0.0
            try:
                data = self.sock.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self._lose()
                return
            for event in self.connection.receive_data(data):
                self._take(event)
            self.flush()

    def wait(self, stream: int, seconds: float) -> Answer:
        """The answer, whether the call has ended by then or not."""
        until = time.monotonic() + seconds
        while self.running(stream) and time.monotonic() < until:
            self.poll(min(0.5, max(0.0, until - time.monotonic())))
        return self.answers[stream]

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                answer = self.answers[event.stream_id]
                answer.headers.update(dict(event.headers))
                if "grpc-status" in answer.headers:
                    self._end(event.stream_id, answer.headers["grpc-status"])
                    answer.message = answer.headers.get("grpc-message", "")
            case h2.events.DataReceived():
                self.answers[event.stream_id].received_bytes += len(event.data)
                if self._greedy and event.flow_controlled_length:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamReset():
                self._end(event.stream_id, "reset")
            case h2.events.ConnectionTerminated():
                self._lose()

    def _end(self, stream: int, status: str) -> None:
        answer = self.answers.get(stream)
        if answer is not None and answer.status is None:
            answer.status, answer.seconds = status, time.monotonic() - answer.began

    def _lose(self) -> None:
        self.lost = True
        for stream in self.answers:
            self._end(stream, "reset")
