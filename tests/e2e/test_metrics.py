"""What Prometheus and probes are told."""

from __future__ import annotations

import io
import json
import signal
import time
from contextlib import suppress

from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.metrics_page import ask, scraped, summed
from tests.ports import free_address
from upscaled import Client, NotFoundError, Progress
from upscaled_server.telemetry.metrics import SNAPSHOT

FAST = "real-esrgan-animevideo-v3"
RPCS = "upscaled_rpc_duration_seconds_count"


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_calls_images_and_queues_are_told_and_the_queue_drains_when_a_caller_leaves() -> None:
    address = free_address()
    with running_server(UPSCALED_METRICS_LISTEN=address) as server, Client(server.address) as client:
        assert ask(address, "/livez")[0] == 200
        assert ask(address, "/readyz")[0] == 200
        assert ask(address, "/")[0] == 404
        client.upscale(picture(48, 32), model=FAST)
        with suppress(NotFoundError):
            client.upscale(picture(8, 8), model="nothing")
        # A call is counted when it is over for the server, which is after its caller has the answer.
        deadline = time.monotonic() + 10
        while not any('"NOT_FOUND"' in at for at in _calls(address)):
            assert time.monotonic() < deadline, "the call that failed is not told"
        assert any('"OK"' in at and "Upscale" in at for at in _calls(address))
        values = scraped(address)
        assert values["upscaled_images_delivered_total", json.dumps({"model": FAST})] == 1
        assert values["upscaled_output_pixels_delivered_total", json.dumps({"model": FAST})] == 192 * 128
        assert values["upscaled_stage_duration_seconds_count", json.dumps({"stage": "infer"})] == 1
        absent = {"upscaled_certificate_expiry_timestamp_seconds"}
        assert {name.removesuffix("_total") for name, _ in values} >= set(SNAPSHOT) - absent
        assert not any(name in absent for name, _ in values)
        _leaves_nothing_behind(server, address)


def _calls(address: str) -> list[str]:
    """The labels of those that were made."""
    return [at for (name, at), value in scraped(address).items() if value and name == RPCS]


def _leaves_nothing_behind(server: RunningServer, address: str) -> None:
    with Client(server.address) as client:
        stream = client.upscale_stream(picture(1400, 1000), model=FAST)
        for event in stream:
            if isinstance(event, Progress) and event.rows_done:
                break
        values = scraped(address)
        assert values["upscaled_images_open", "{}"] == 1
        interactive = json.dumps({"class": "interactive"})
        assert values["upscaled_queue_device_seconds", interactive] > 0
        assert 0 < values["upscaled_queue_pixels", interactive] <= 1400 * 1000
        assert values["upscaled_queue_device_seconds", json.dumps({"class": "batch"})] == 0
        stream.close()
        deadline = time.monotonic() + 10
        while (left := summed(address))["upscaled_images_open"] or left["upscaled_queue_units"]:
            assert time.monotonic() < deadline, f"the work of a caller that left is still queued: {left}"
        assert summed(address)["upscaled_queue_device_seconds"] < 0.001


def test_readiness_turns_first_when_the_server_stops() -> None:
    address = free_address()
    with running_server(UPSCALED_METRICS_LISTEN=address) as server, Client(server.address) as client:
        stream = client.upscale_stream(picture(1000, 800), model=FAST)
        for event in stream:
            if isinstance(event, Progress) and event.rows_done:
                break
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while ask(address, "/readyz")[0] != 503:
            assert time.monotonic() < deadline
        assert ask(address, "/livez")[0] == 200
        stream.close()
