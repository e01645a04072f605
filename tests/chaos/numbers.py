"""Numbers that are none, or beyond every limit, in every field of every rpc that takes one.

python -m tests.chaos.numbers [--short] [--out FILE]
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from tests.chaos.requests import Place, Things, places, right, things
from tests.e2e.keyed import bearer, keyed_server
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from tests.reliability.rpcs import methods, status_of
from upscaled.v1 import options_pb2

_SHORT_EVERY = 3

_FLOATS = (math.nan, math.inf, -math.inf, -1.0)
_VALUES: dict[int, tuple[float, ...]] = {
    FieldDescriptor.TYPE_DOUBLE: _FLOATS,
    FieldDescriptor.TYPE_FLOAT: _FLOATS,
    FieldDescriptor.TYPE_INT32: (-1, -(2**31), 2**31 - 1),
    # On the wire, -32 is what 2**64 - 32 is.
    FieldDescriptor.TYPE_INT64: (-1, -32, -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: (-1, 77, 2**31 - 1),
}

# Nobody's limit needs to be below what the type holds; what only the server says is not read; and following
# an ended job from behind its end gives nothing.
_LARGEST_IS_RIGHT = (
    "max_concurrent",
    "max_queued_jobs",
    "max_input_pixels",
    "max_stored_bytes",
    "after_event_number",
    "after_sequence",
)
# There were years before 1970.
_TIMES = ("start_time.seconds", "end_time.seconds", "created_after.seconds", "created_before.seconds")
_NOT_READ = ("create_time.seconds", "create_time.nanos")


def cases(method: MethodDescriptor, there: Things) -> Iterator[tuple[Place, float]]:
    """Each place with each of the numbers that must be refused there."""
    for place in places(method.input_type):
        if place.name.endswith(_NOT_READ) or (method.name == "UpscaleFile" and ".tiles." in place.name):
            continue
        values = _VALUES.get(place.field.type, ())
        if place.field.name in _LARGEST_IS_RIGHT:
            values = tuple(value for value in values if value < 0)
        if method.name == "DownloadOutput" and place.field.name == "offset":
            values = (*values, there.output_bytes + 1)
        if method.name == "WriteInput" and place.field.name == "offset":
            values = (*values, 501)
        if place.name.endswith(_TIMES):
            values = (-(2**63), 2**63 - 1)
        for value in values:
            yield place, value


def request(method: MethodDescriptor, there: Things, place: Place, value: float) -> Message:
    """One in which nothing is wrong but this."""
    message: Any = right(method, there)
    options = getattr(message, "start", message)
    if place.field.name == "quality" and "tiles" not in place.name:
        options.options.format = options_pb2.FORMAT_JPEG
    if ".tiles." in place.name:
        options.options.tiles.enabled = True
        options.options.tiles.encoding = options_pb2.TILE_ENCODING_JPEG
    if place.field.name == "denoise_strength":
        options.options.model = "real-esrgan-x4-v3"
    if place.field.name == "size_bytes" and method.name == "UpscaleStream":
        message.start.ClearField("source")
    if place.field.name == "expires":
        message.signature = "x"
    if place.field.name == "nanos":
        # Apart from it the time is right.
        _holder(message, place).seconds = 3600
    place.put(message, value)
    return message


def _refused(status: grpc.StatusCode, said: str, place: Place) -> bool:
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:  # above a limit of the server, which it says
        return "limit:" in said
    # Beyond the end of what is there: OUT_OF_RANGE.
    refusals = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
    return status in refusals and any(field.name in said for field in place.fields[-2:])


def _holder(message: Any, place: Place) -> Any:
    for field in place.fields[:-1]:
        message = getattr(message, field.name)
    return message


def main() -> int:
    parser = arguments("numbers", __doc__.split("\n")[0])
    options = parser.parse_args()
    record = Record(
        "numbers",
        "Numbers",
        "NaN, infinity, negative numbers, 2^64-32, the largest of the type and the end + 1 in every field of "
        "every rpc that takes a number: INVALID_ARGUMENT naming the field (OUT_OF_RANGE beyond an end, "
        "RESOURCE_EXHAUSTED above a limit of the server)",
        options.short,
    )
    with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name, keyed_server(Path(name)) as server:
        there = things(server, "numbers")
        control = Control(server.server, there.key)
        began, fields = time.monotonic(), set[str]()
        with grpc.insecure_channel(server.address) as channel:
            for method in methods():
                for number, (place, value) in enumerate(cases(method, there)):
                    if options.short and number % _SHORT_EVERY:
                        continue
                    sent = request(method, there, place, value).SerializeToString()
                    status, said = status_of(channel, method, sent, bearer(there.key))
                    fields.add(f"{method.name}.{place.name}")
                    record.tried += 1
                    if _refused(status, said, place):
                        record.held += 1
                    else:
                        record.not_held.append(
                            f"{method.name}: {place.name} = {value:g} ended {status.name}: {said}"
                        )
        record.seconds = time.monotonic() - began
        record.figures = {"fields": len(fields)}
        record.not_held += control.problems(server.server)
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
