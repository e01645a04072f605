"""Bad input gets the fitting status, with field, limit and value, and the server goes on."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from upscaled import Client, UpscaledError
from upscaled.v1 import (
    options_pb2,
    upscaler_pb2,
    upscaler_pb2_grpc,
)

FAST = "real-esrgan-animevideo-v3"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Client:
    return Client(server.address, timeout=60, retries=0)


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def _png(width: int = 8, height: int = 8) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (9, 99, 199)).save(out, "PNG")
    return out.getvalue()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that promises many pixels and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def _works(client: Client) -> bool:
    return client.upscale(_png(), model=FAST).width == 32


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing", b""),
        ("text", b"this is not an image at all"),
        ("truncated PNG", _png(64, 64)[:100]),
        ("zip", b"PK\x03\x04" + bytes(200)),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>"),
    ],
)
def test_bytes_that_are_no_image_are_refused(client: Client, name: str, data: bytes) -> None:
    with pytest.raises(UpscaledError) as caught:
        client.upscale(data, model=FAST)
    assert caught.value.code is INVALID, name
    assert _works(client)


def test_a_truncated_photograph_is_refused(client: Client, sample: Path) -> None:
    out = io.BytesIO()
    Image.open(sample).convert("RGB").save(out, "JPEG")
    with pytest.raises(UpscaledError) as caught:
        client.upscale(out.getvalue()[: len(out.getvalue()) // 2], model=FAST)
    assert caught.value.code is INVALID


def test_more_pixels_than_allowed_are_refused_from_the_header(client: Client) -> None:
    with pytest.raises(UpscaledError) as caught:
        client.upscale(_png_header(30_000, 30_000), model=FAST)
    assert caught.value.code is EXHAUSTED
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert float(caught.value.metadata["limit"]) == 50
    assert _works(client)


def test_an_output_above_the_limit_is_refused_before_work(client: Client) -> None:
    with pytest.raises(UpscaledError) as caught:
        client.upscale(_png(), model=FAST, width=30_000, height=30_000, fit="stretch")
    assert caught.value.code is EXHAUSTED
    assert "options.width" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"scale": 0}, "options.scale"),
        ({"scale": -1}, "options.scale"),
        ({"scale": math.nan}, "options.scale"),
        ({"scale": math.inf}, "options.scale"),
        ({"scale": 1e300}, "options.scale"),
        ({"scale": 2, "width": 100}, "options.width"),
        ({"width": 0}, "options.width"),
        ({"height": -1}, "options.height"),
        ({"quality": 90}, "options.quality"),
        ({"format": "jpeg", "quality": 101}, "options.quality"),
        ({"labels": {"UPPER": "x"}}, "options.labels"),
        ({"labels": {"a": "x" * 2000}}, "options.labels[a]"),
    ],
)
def test_an_option_outside_its_range_names_field_limit_and_value(
    server: RunningServer, options: dict[str, object], field: str
) -> None:
    """Sent past the SDK, which would refuse some of them by itself."""
    message = options_pb2.UpscaleOptions(model=FAST)
    for name, value in options.items():
        if name == "labels":
            message.labels.update(value)  # type: ignore[arg-type]
        else:
            setattr(message, name, options_pb2.FORMAT_JPEG if value == "jpeg" else value)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        request = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=_png()), options=message)
        upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, timeout=30)
    assert caught.value.code() is INVALID
    assert field in caught.value.details()
    assert "limit:" in caught.value.details()
    assert "got:" in caught.value.details()


def test_an_unknown_model_lists_the_known_ones(client: Client) -> None:
    with pytest.raises(UpscaledError, match="real-esrgan-x4-v3") as caught:
        client.upscale(_png(), model="waifu2x")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_an_enum_of_a_newer_contract_is_refused(channel: grpc.Channel) -> None:
    options = options_pb2.UpscaleOptions(model=FAST, format=77)  # type: ignore[arg-type]
    request = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=_png()), options=options)
    with pytest.raises(grpc.RpcError) as caught:
        upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, timeout=30)
    assert caught.value.code() is INVALID


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [upscaler_pb2.UpscaleStreamRequest(chunk=b"x")],
        [upscaler_pb2.UpscaleStreamRequest()],
        [upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart())] * 2,
        [
            upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart(size_bytes=5)),
            upscaler_pb2.UpscaleStreamRequest(chunk=b"x"),
        ],
        [upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart(size_bytes=-5))],
        [
            upscaler_pb2.UpscaleStreamRequest(
                start=upscaler_pb2.UpscaleStart(source=options_pb2.Source(image=_png()))
            ),
            upscaler_pb2.UpscaleStreamRequest(chunk=b"x"),
        ],
        [
            upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart()),
            upscaler_pb2.UpscaleStreamRequest(chunk=bytes((1 << 20) + 1)),
        ],
    ],
)
def test_a_stream_out_of_order_is_refused(
    channel: grpc.Channel, messages: list[upscaler_pb2.UpscaleStreamRequest]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(upscaler_pb2_grpc.UpscalerStub(channel).UpscaleStream(iter(messages), timeout=30))
    assert caught.value.code() is INVALID


def test_a_message_that_would_be_unpacked_is_not_taken(channel: grpc.Channel) -> None:
    request = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=bytes(1 << 20)))
    with pytest.raises(grpc.RpcError) as caught:
        upscaler_pb2_grpc.UpscalerStub(channel).Upscale(
            request, timeout=30, compression=grpc.Compression.Gzip
        )
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_of_much_that_is_no_image_is_refused(channel: grpc.Channel) -> None:
    options = options_pb2.UpscaleOptions(labels={f"a{number}": "" for number in range(200_000)})
    request = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=_png()), options=options)
    with pytest.raises(grpc.RpcError) as caught:
        upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, timeout=30)
    assert caught.value.code() is EXHAUSTED
    assert "message: is too large beside its image" in caught.value.details()


@pytest.mark.parametrize("kind", ["url", "input_id", "output_id"])
def test_a_source_that_is_none_is_refused(channel: grpc.Channel, kind: str) -> None:
    request = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(**{kind: "x"}))  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError) as caught:
        upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, timeout=30)
    assert caught.value.code() is INVALID
    assert f"source.{kind}" in caught.value.details()


def test_limits_are_the_operators(sample: Path) -> None:
    with running_server(UPSCALED_MAX_INPUT_PIXELS="1000", UPSCALED_MAX_INPUT_BYTES="5000") as server:
        client = Client(server.address, timeout=60, retries=0)
        assert client.server_info().limits.max_input_pixels == 1000
        with pytest.raises(UpscaledError) as caught:
            client.upscale(_png(100, 100), model=FAST)
        assert (caught.value.code, caught.value.reason) == (EXHAUSTED, "LIMIT_EXCEEDED")
        with pytest.raises(UpscaledError) as caught:
            list(client.upscale_stream(sample, model=FAST))
        assert caught.value.code in (EXHAUSTED, INVALID)
        assert "5000" in str(caught.value)
        assert _works(client)
