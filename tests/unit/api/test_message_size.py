"""Large messages are images with little beside them, or are refused before they are parsed."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from upscaled.v1 import admin_pb2, blobs_pb2, jobs_pb2, options_pb2, upscaler_pb2
from upscaled_server.api.malformed import Malformed, tolerant, well_formed
from upscaled_server.api.message_size import MAX_BESIDE_BYTES, beside_image
from upscaled_server.errors import LimitExceeded

_IMAGE = bytes(5 << 20)


def _file(data: bytes) -> upscaler_pb2.UpscaleFileRequest:
    request = upscaler_pb2.UpscaleFileRequest(options=options_pb2.UpscaleOptions(model="x"))
    request.content.data = data
    return request


def _write(data: bytes) -> blobs_pb2.WriteInputRequest:
    request = blobs_pb2.WriteInputRequest(input_id="x", offset=1 << 40)
    request.content.data = data
    return request


@pytest.mark.parametrize(
    "message",
    [
        upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=_IMAGE),
            options=options_pb2.UpscaleOptions(model="x", scale=2.5, denoise_strength=0.5, labels={"a": "b"}),
        ),
        upscaler_pb2.UpscaleTilesRequest(source=options_pb2.Source(image=_IMAGE), request_id="x"),
        upscaler_pb2.UpscaleStreamRequest(chunk=_IMAGE),
        upscaler_pb2.UpscaleStreamRequest(
            start=upscaler_pb2.UpscaleStart(source=options_pb2.Source(image=_IMAGE))
        ),
        jobs_pb2.CreateJobRequest(source=options_pb2.Source(image=_IMAGE), callback_url="https://x/"),
        _file(_IMAGE),
        _write(_IMAGE),
    ],
)
def test_an_image_may_be_as_large_as_the_message(message: Message) -> None:
    data = message.SerializeToString()
    assert 0 < beside_image(message.DESCRIPTOR, data) < 200
    assert tolerant(message.DESCRIPTOR, type(message).FromString)(data) == message


def _many(message: Message, count: int = 600_000) -> bytes:
    """The bytes of a message, over and over: what is in lists and maps adds up."""
    return message.SerializeToString() * (count // max(1, len(message.SerializeToString())) + 1)


_EXTENDED = upscaler_pb2.UpscaleFileRequest()
_EXTENDED.content.extensions.extend([AnyMessage()] * 700_000)
_LABELLED = options_pb2.UpscaleOptions(labels={f"{number:05x}": "" for number in range(120_000)})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (jobs_pb2.ListJobsRequest, jobs_pb2.ListJobsRequest(labels=[""] * 700_000).SerializeToString()),
        (
            admin_pb2.CreateCallerRequest,
            _many(admin_pb2.CreateCallerRequest(caller={"name": "x"}), 2_000_000),
        ),
        (upscaler_pb2.UpscaleRequest, upscaler_pb2.UpscaleRequest(options=_LABELLED).SerializeToString()),
        (upscaler_pb2.UpscaleFileRequest, _EXTENDED.SerializeToString()),
        (jobs_pb2.GetJobRequest, jobs_pb2.GetJobRequest(job_id="x" * (2 << 20)).SerializeToString()),
        # The same field of bytes again and again, fields that nobody knows, and groups of them.
        (upscaler_pb2.UpscaleStreamRequest, b"\x12\x00" * 700_000),
        (upscaler_pb2.UpscaleStreamRequest, b"\xfa\x3f\x80\x80\x80\x01" + bytes(2 << 20)),
        (upscaler_pb2.UpscaleStreamRequest, b"\xfb\x3f" * 400_000 + b"\xfc\x3f" * 400_000),
        # An image behind what is no protobuf.
        (upscaler_pb2.UpscaleStreamRequest, b"\xff" * 11 + b"\x12\x80\x80\x80\x01" + bytes(2 << 20)),
        (upscaler_pb2.UpscaleStreamRequest, b"\x12\xff\xff\xff\x7f" + bytes(2 << 20)),
    ],
)
def test_nothing_else_may(kind: type[Message], data: bytes) -> None:
    assert len(data) > MAX_BESIDE_BYTES
    refused = tolerant(kind.DESCRIPTOR, lambda _: pytest.fail("it was parsed"))(data)
    assert isinstance(refused, Malformed)
    with pytest.raises(LimitExceeded, match=f"limit: {MAX_BESIDE_BYTES} bytes"):
        well_formed(refused)


def test_what_ends_in_the_middle_is_left_to_who_parses_it() -> None:
    for data in (b"\x12\x05x", b"\x12", b"\xff"):
        assert isinstance(
            tolerant(
                upscaler_pb2.UpscaleStreamRequest.DESCRIPTOR, upscaler_pb2.UpscaleStreamRequest.FromString
            )(data),
            Malformed,
        )
        large = upscaler_pb2.UpscaleStreamRequest(chunk=_IMAGE).SerializeToString() + data
        assert beside_image(upscaler_pb2.UpscaleStreamRequest.DESCRIPTOR, large) < 200
