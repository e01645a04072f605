"""Line ends, control characters and forged records in everything that a caller can send.

python -m tests.chaos.log_injection [--short] [--out FILE]

The server logs at the level debug, as JSON and as text. No line of its log may begin with what a caller sent,
and no control byte may be in it.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import h2.exceptions
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from PIL import Image, PngImagePlugin

from tests.chaos.http2 import Peer, framed
from tests.chaos.requests import Place, Things, places, right, things
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.rpcs import methods, path_of, status_of
from upscaled.v1 import options_pb2, upscaler_pb2

_MARK = "FORGED-41"
_FORGED = (
    f'x\r\n{{"time": "2", "level": "error", "event": "{_MARK}"}}\n{_MARK}\x1b[2J\x7f\u2028{_MARK}',
    f"{_MARK}\x00\x0b{_MARK}\x0c{_MARK}\x85{_MARK}\r{_MARK}\x9b31m",
    f"%0d%0a{_MARK}\\n{_MARK}%s%(msg)s{{0}}",
)
_HEADERS = (
    "user-agent",
    "traceparent",
    "tracestate",
    "x-request-id",
    "grpc-timeout",
    "grpc-encoding",
    "authorization",
    "content-type",
    "x-forged-bin",
    _MARK.lower(),
)


def texts(method: MethodDescriptor) -> Iterator[Place]:
    kinds = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return (place for place in places(method.input_type) if place.field.type in kinds)


def requests(there: Things, forged: str) -> Iterator[tuple[MethodDescriptor, Message]]:
    """Each field that takes text, in a call that only checks and in one that works."""
    for method in methods():
        for place in texts(method):
            value = forged.encode() if place.field.type == FieldDescriptor.TYPE_BYTES else forged
            for checked in (True, False):
                message = right(method, there)
                if hasattr(message, "validate_only"):
                    message.validate_only = checked
                elif not checked:
                    continue
                place.put(message, value)
                yield method, message


def titled(forged: str) -> bytes:
    """A picture that says it of itself, where readers look for titles, cameras and profiles."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Title", forged)
    info.add_text("XML:com.adobe.xmp", forged)
    exif = Image.Exif()
    exif[0x010E] = forged  # ImageDescription
    exif[0x0110] = forged  # Model
    out = io.BytesIO()
    picture = Image.new("RGB", (24, 16), (200, 30, 60))
    picture.save(out, "PNG", pnginfo=info, exif=exif, icc_profile=forged.encode())
    return out.getvalue()


def _send_all(server: KeyedServer, there: Things, *, short: bool) -> int:
    """How many calls it were."""
    count = 0
    with grpc.insecure_channel(server.address) as channel:
        for forged in _FORGED[: 1 if short else None]:
            for method, message in requests(there, forged):
                status_of(channel, method, message.SerializeToString(), bearer(there.key))
                count += 1
            for data in (titled(forged), forged.encode(), titled(forged)[:200]):
                request = upscaler_pb2.UpscaleRequest(
                    source=options_pb2.Source(image=data), options=options_pb2.UpscaleOptions(model=FAST)
                )
                upscale = next(each for each in methods() if each.name == "Upscale")
                status_of(channel, upscale, request.SerializeToString(), bearer(there.key))
                count += 1
            count += _send_headers(server.address, there.key, forged)
    return count


def _send_headers(address: str, key: str, forged: str) -> int:
    """In headers and paths, where the gRPC library would not."""
    get_info = "/upscaled.v1.Server/GetServerInfo"
    more = [(get_info, (name, forged)) for name in _HEADERS]
    paths = (f"/{forged}", f"/upscaled.v1.Server/{forged}", path_of(methods()[0]) + forged)
    more += [(path, ("x-none", "1")) for path in paths]
    for path, header in more:
        with Peer(address) as peer:
            try:
                stream = peer.begin(path, ("authorization", f"Bearer {key}"), header)
                peer.send(stream, framed(b""), end=True)
                peer.flush()
                peer.wait(stream, 5.0)
            except h2.exceptions.ProtocolError as error:
                raise RuntimeError(f"{header[0]} or {path!r} could not be sent") from error
    return len(more)


def _wrong_in(log: bytes, *, as_json: bool) -> Iterator[str]:
    """Lines as any reader may see them that are not the server's own, and control bytes."""
    text = log.decode()
    if _MARK not in text:
        yield "nothing of what was sent was logged: the test tells nothing"
    for line in text.splitlines():
        if line.startswith(_MARK):
            yield f"a line begins with {line[:60]!r}"
        elif as_json and not line.startswith('{"time": "2'):
            yield f"a line is no record: {line[:60]!r}"
    for each in sorted({each for each in text if each != "\n" and not each.isprintable()}):
        yield f"the log has {each!r}"


def main() -> int:
    parser = arguments("log_injection", __doc__.split("\n")[0])
    options = parser.parse_args()
    record = Record(
        "log_injection",
        "Log injection",
        "line ends, control characters and forged records in every text and bytes field of every rpc, in "
        "headers, paths and the metadata of images, logged at debug as JSON and as text: no line begins with "
        "them, no raw control byte",
        options.short,
    )
    began = time.monotonic()
    for log_format in ("json", "text"):
        with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name:
            with keyed_server(Path(name), UPSCALED_LOG_FORMAT=log_format) as server:
                there = things(server, "forger")
                control = Control(server.server, there.key)
                sent = _send_all(server, there, short=options.short)
                record.not_held += control.problems(server.server)
            log = server.log.read_bytes()
        wrong = list(_wrong_in(log, as_json=log_format == "json"))
        record.tried += sent
        record.held += sent - len(wrong)
        record.not_held += [f"as {log_format}: {each}" for each in wrong[:20]]
        record.figures[f"log_lines_{log_format}"] = log.count(b"\n")
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
