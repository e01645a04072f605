"""What a decoder says is believed only in form: it has read hostile bytes and may not be itself."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import DamagedImage, DomainError, LimitExceeded
from upscaled_server.media.codec import wire
from upscaled_server.media.info import ImageInfo, Metadata

INFO = ImageInfo(
    "PNG", 30, 20, 3, True, 8, 1, 6, Metadata(icc=b"i" * 40, exif=None, xmp=b"x", dpi=(72.0, 96.5))
)
HEADER = wire.Header(INFO, 1000, 500)


def changed(**values: Any) -> bytes:
    payload = wire.pack_header(HEADER)
    (length,) = struct.unpack_from("<I", payload)
    said = json.loads(payload[4 : 4 + length]) | values
    text = json.dumps(said).encode()
    return struct.pack("<I", len(text)) + text + payload[4 + length :]


def test_a_header_arrives_as_it_was_sent() -> None:
    assert wire.unpack_header(wire.pack_header(HEADER)) == HEADER


@pytest.mark.parametrize(
    "values",
    [
        {"width": 0}, {"width": 2**31}, {"width": 1.5}, {"width": True}, {"height": "1"}, {"channels": 2},
        {"bits": 12}, {"format": "EXE"}, {"orientation": 9}, {"frames": 0}, {"has_alpha": 1}, {"dpi": [1]},
        {"dpi": [float("nan"), 1]}, {"blobs": [1, None, 1]}, {"blobs": [40, None]}, {"blobs": [-1, 41, None]},
        {"working_bytes": -1},
    ],
)  # fmt: skip
def test_a_header_out_of_its_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(wire.ProtocolBrokenError):
        wire.unpack_header(changed(**values))


@given(st.binary(max_size=200))
def test_any_bytes_are_either_understood_or_refused(payload: bytes) -> None:
    for unpack in (wire.unpack_header, wire.unpack_error):
        try:
            unpack(payload)
        except wire.ProtocolBrokenError:
            continue


def test_errors_arrive_with_their_kind_and_numbers() -> None:
    damaged = wire.unpack_error(wire.pack_error(DamagedImage("a part is missing")))
    assert isinstance(damaged, DamagedImage)
    assert damaged.message == "a part is missing"
    sent = LimitExceeded("image", "too many pixels", limit=50.0, actual=88.36, unit="megapixels")
    told = wire.unpack_error(wire.pack_error(sent))
    assert isinstance(told, LimitExceeded)
    assert (told.message, told.numbers) == (sent.message, sent.numbers)


@pytest.mark.parametrize("kind", ["KeyError", "DomainError", "NotFound", "", None, 1, ["x"]])
def test_only_the_kinds_a_decoder_may_raise_are_raised(kind: Any) -> None:
    with pytest.raises(wire.ProtocolBrokenError):
        wire.unpack_error(json.dumps({"kind": kind, "message": "x"}).encode())


def test_messages_lose_their_control_characters_and_their_excess() -> None:
    error = wire.unpack_error(
        json.dumps({"kind": "NotAnImage", "message": "a\nb\x1b[0m" + "c" * 999}).encode()
    )
    assert isinstance(error, DomainError)
    assert error.message.startswith("a?b?[0m")
    assert len(error.message) <= 300
