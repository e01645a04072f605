"""Callers that misuse the service hold back themselves, and nobody else."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.metrics_page import summed
from tests.ports import free_address
from upscaled import Client, Done, InvalidRequestError, Plan, Progress, UpscaledError
from upscaled.v1 import upscaler_pb2, upscaler_pb2_grpc

FAST = "real-esrgan-animevideo-v3"


def _noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=60)
    return out.getvalue()


def test_readers_that_stop_reading_do_not_keep_others_out(own_server: RunningServer) -> None:
    data = _noise(500, 500)
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(Client(own_server.address))
            stream = stack.enter_context(client.upscale_stream(data, model=FAST))
            next(stream)
        # Each of the twenty has more finished rows than its connection takes, and reads none of them.
        good = stack.enter_context(Client(own_server.address, timeout=120, retries=0))
        assert good.upscale(_noise(32, 32), model=FAST).width == 128


def test_an_image_that_takes_long_to_decode_keeps_nobody_out_of_the_only_place() -> None:
    endless = b"P3 2000 2000 255\n" + b"7 " * 11_990_000  # takes Pillow seconds, and lacks its last pixels
    metrics = free_address()
    with (
        running_server(UPSCALED_MAX_OPEN_RUNS="1", UPSCALED_METRICS_LISTEN=metrics) as server,
        ExitStack() as stack,
    ):
        slow = stack.enter_context(Client(server.address, timeout=120, retries=0))
        good = stack.enter_context(Client(server.address, timeout=120, retries=0))
        events: list[object] = []
        failed: list[UpscaledError] = []

        def decode_for_long() -> None:
            try:
                events.extend(slow.upscale_stream(endless, model=FAST))
            except UpscaledError as error:
                failed.append(error)

        thread = threading.Thread(target=decode_for_long)
        thread.start()
        while not summed(metrics)["upscaled_images_open"]:
            assert thread.is_alive()
            time.sleep(0.01)
        assert good.upscale(_noise(32, 32), model=FAST).width == 128
        assert thread.is_alive()
        thread.join(60)
        assert [type(error) for error in failed] == [InvalidRequestError]
        assert events == []  # not even a plan
        assert good.upscale(_noise(32, 32), model=FAST).width == 128


def test_a_reader_that_reads_nothing_is_given_up() -> None:
    with (
        running_server(UPSCALED_READER_IDLE_SECONDS="1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        start = upscaler_pb2.UpscaleStart()
        start.options.model = FAST
        messages = [
            upscaler_pb2.UpscaleStreamRequest(start=start),
            upscaler_pb2.UpscaleStreamRequest(chunk=_noise(700, 700)),
        ]
        call = upscaler_pb2_grpc.UpscalerStub(channel).UpscaleStream(iter(messages))
        next(call)
        time.sleep(8)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_more_calls_than_allowed_are_refused_at_once_and_told_when_to_come_back() -> None:
    with running_server(UPSCALED_MAX_CALLS="4") as server, Client(server.address, retries=0) as client:
        outcomes: Counter[str] = Counter()
        waits: list[float | None] = []

        def call() -> None:
            try:
                client.upscale(_noise(300, 300), model=FAST, timeout=120)
                outcomes["done"] += 1
            except UpscaledError as error:
                outcomes[error.reason] += 1
                waits.append(error.retry_after)

        threads = [threading.Thread(target=call) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(150)
        assert outcomes["done"] >= 4
        assert outcomes["done"] + outcomes["OVERLOADED"] == 24
        assert waits
        assert all(wait is not None and wait > 0 for wait in waits)


def test_who_waits_in_the_queue_hears_the_place_and_how_long_it_takes() -> None:
    with running_server(UPSCALED_MAX_OPEN_RUNS="1") as server, Client(server.address, timeout=120) as client:
        first = client.upscale_stream(_noise(1400, 1000), model=FAST, omit_file=True)
        next(first)
        next(first)
        reading = threading.Thread(target=lambda: list(first))
        reading.start()
        events = list(client.upscale_stream(_noise(16, 16), model=FAST))
        waiting = [e for e in events if isinstance(e, Progress) and e.stage == "queue"]
        reading.join(120)
        assert waiting
        assert {event.queue_position for event in waiting} == {1}
        assert all(event.remaining_seconds is not None and event.remaining_seconds > 0 for event in waiting)
        assert isinstance(events[0], Plan)
        assert events[0].estimated_wait_seconds > 0
        assert isinstance(events[-1], Done)


def test_a_trickling_upload_is_ended() -> None:
    with (
        running_server(UPSCALED_UPLOAD_IDLE_SECONDS="1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):

        def trickle() -> Iterator[upscaler_pb2.UpscaleStreamRequest]:
            yield upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart())
            for _ in range(100):
                yield upscaler_pb2.UpscaleStreamRequest(chunk=b"x")
                time.sleep(0.2)

        with pytest.raises(grpc.RpcError) as caught:
            list(upscaler_pb2_grpc.UpscalerStub(channel).UpscaleStream(trickle(), timeout=60))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "bytes a second" in caught.value.details()


@pytest.mark.parametrize("method", ["Upscale", "UpscaleTiles", "UpscaleStream"])
def test_what_is_no_protobuf_is_refused_as_such(server: RunningServer, method: str) -> None:
    path = f"/upscaled.v1.Upscaler/{method}"
    raw = {"request_serializer": None, "response_deserializer": None}
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        if method == "Upscale":
            channel.unary_unary(path, **raw)(b"\xff\xff\xff", timeout=30)
        elif method == "UpscaleTiles":
            list(channel.unary_stream(path, **raw)(b"\xff\xff\xff", timeout=30))
        else:
            list(channel.stream_stream(path, **raw)(iter([b"\xff\xff\xff"]), timeout=30))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "protobuf" in caught.value.details()


def test_a_health_watcher_does_not_hold_the_end_back(own_server: RunningServer) -> None:
    with grpc.insecure_channel(own_server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        assert own_server.stop() == 0
        # The grace period is 30 seconds, and there is nothing that could need it.
        assert time.monotonic() - began < 20


def test_the_request_id_is_in_the_error(server: RunningServer) -> None:
    with Client(server.address, retries=0) as client, pytest.raises(UpscaledError) as caught:
        client.upscale(b"no image", model=FAST, request_id="ticket-41")
    assert caught.value.metadata["request_id"] == "ticket-41"
