"""A real Prometheus scrapes a server at work: every documented series is there, and the numbers are right."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from google.protobuf.duration_pb2 import Duration

from tests.conftest import REPO
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.e2e.metrics_page import ask
from tests.e2e.receiver import Receiver, receiver
from tests.e2e.scraping_prometheus import Scraper, scraping_prometheus
from tests.e2e.test_killed_worker import _worker
from tests.e2e.test_metrics import picture as noise
from tests.e2e.test_tls import Files
from tests.ports import free_address
from upscaled import TLS, Chunk, Client, UnavailableError
from upscaled.v1 import jobs_pb2, jobs_pb2_grpc, options_pb2, upscaler_pb2, upscaler_pb2_grpc

RENDER = runpy.run_path(str(REPO / "scripts" / "render_metrics.py"))
SMALL = picture(24, 16)
SMALL_PIXELS, LARGE = 96 * 64, (1400, 1000)
CALLS = 3


@dataclass
class Load:
    """What was asked of the server, in bytes and numbers that Prometheus must find again."""

    received_bytes: int = 0
    sent_bytes: int = 0
    images: int = 0
    pixels: int = 0
    credits: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Watched:
    prometheus: Scraper
    metrics: str
    load: Load
    files: Files


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder, address = tmp_path_factory.mktemp("prometheus"), free_address()
    tls = folder / "tls"
    tls.mkdir()
    files = Files(tls)
    with receiver(SMALL) as outside:
        host = outside.origin.removeprefix("http://")
        with (
            keyed_server(
                folder,
                UPSCALED_METRICS_LISTEN=address,
                UPSCALED_PUBLIC_URL="https://images.example.com",
                UPSCALED_FETCH_ALLOW=host,
                UPSCALED_CALLBACK_ALLOW=host,
                UPSCALED_CALLBACK_HTTP="true",
                UPSCALED_PRICES="default=1+2",
                UPSCALED_HEARTBEAT_SECONDS="0.5",
                **files.settings,
            ) as server,
            scraping_prometheus(folder / "prometheus", address) as prometheus,
        ):
            load = _load(server, server.make_key("anna", monthly_credits=1000), files, outside)
            prometheus.wait_for("sum(upscaled_images_delivered_total)", load.images)
            prometheus.wait_for("upscaled_callbacks_pending", 0)
            # What the first heartbeat of the next worker says.
            deadline = time.monotonic() + 30
            while not prometheus.value("upscaled_device_memory_bytes"):
                assert time.monotonic() < deadline
                time.sleep(0.3)
            yield Watched(prometheus, address, load, files)


def _load(server: KeyedServer, key: str, files: Files, outside: Receiver) -> Load:
    load = Load()
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
    with grpc.secure_channel(server.address, credentials) as channel:
        _calls(upscaler_pb2_grpc.UpscalerStub(channel), key, load)
        _jobs(jobs_pb2_grpc.JobsStub(channel), key, outside, load)
    with Client(server.address, tls=TLS(ca=files.ca), api_key=key, timeout=120, retries=0) as client:
        _cut_off_by_the_end_of_its_decoder(server, client, load)
        _goes_on_with_the_next_worker(server, client, load)
    return load


def _calls(stub: upscaler_pb2_grpc.UpscalerStub, key: str, load: Load) -> None:
    for number in range(CALLS):
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=SMALL), options=options_pb2.UpscaleOptions(model=FAST)
        )
        if number == 0:
            request.options.priority = options_pb2.PRIORITY_BATCH
        load.received_bytes += request.ByteSize()
        answer = stub.Upscale(request, metadata=bearer(key), timeout=60)
        load.sent_bytes += answer.ByteSize()
        _delivered(load, SMALL_PIXELS, answer.credits.charged)
    refused = {
        "NOT_FOUND": upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=SMALL), options=options_pb2.UpscaleOptions(model="nothing")
        ),
        "NOT_AN_IMAGE": upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=b"none" * 9)),
    }
    for reason, request in refused.items():
        load.received_bytes += request.ByteSize()
        with pytest.raises(grpc.RpcError):
            stub.Upscale(request, metadata=bearer(key), timeout=60)
        load.refused[reason] = 1


def _jobs(stub: jobs_pb2_grpc.JobsStub, key: str, outside: Receiver, load: Load) -> None:
    def create(source: options_pb2.Source, **more: str) -> jobs_pb2.Job:
        request = jobs_pb2.CreateJobRequest(
            source=source,
            options=options_pb2.UpscaleOptions(model=FAST),
            wait=Duration(seconds=50),
            **more,  # type: ignore[arg-type]
        )
        made: jobs_pb2.Job = stub.CreateJob(request, metadata=bearer(key), timeout=60)
        return made

    done = create(options_pb2.Source(url=f"{outside.origin}/in.jpg"), callback_url=f"{outside.origin}/hook")
    assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
    outside.wait_for_callback(30)
    _delivered(load, SMALL_PIXELS, done.result.credits.charged)
    request = jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=noise(*LARGE)), options=options_pb2.UpscaleOptions(model=FAST)
    )
    made = stub.CreateJob(request, metadata=bearer(key), timeout=60)
    stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=made.id), metadata=bearer(key), timeout=60)
    deadline = time.monotonic() + 60
    while (
        stub.GetJob(jobs_pb2.GetJobRequest(job_id=made.id), metadata=bearer(key), timeout=60).state
        != jobs_pb2.JOB_STATE_CANCELLED
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _cut_off_by_the_end_of_its_decoder(server: KeyedServer, client: Client, load: Load) -> None:
    with pytest.raises(UnavailableError):
        for number, event in enumerate(client.upscale_stream(noise(*LARGE), model=FAST)):
            if isinstance(event, Chunk) and number:
                for child in _children(_child(server.server.process.pid, "media.codec.zygote")):
                    os.kill(child, signal.SIGKILL)
    load.refused["UNAVAILABLE"] = 1


def _goes_on_with_the_next_worker(server: KeyedServer, client: Client, load: Load) -> None:
    killed = False
    for event in client.upscale_stream(noise(400, 640), model=FAST):
        if isinstance(event, Chunk) and not killed:
            os.kill(_worker(server.server), signal.SIGKILL)
            killed = True
    assert killed
    _delivered(load, 1600 * 2560, 1 + 2 * 1600 * 2560 / 1e6)


def _delivered(load: Load, pixels: int, credits_charged: float) -> None:
    load.images += 1
    load.pixels += pixels
    load.credits += credits_charged


def _child(pid: int, module: str) -> int:
    (found,) = (
        child for child in _children(pid) if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    return found


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_every_documented_series_is_there(watched: Watched) -> None:
    found = {
        dict(labels)["__name__"]
        for labels in watched.prometheus.query('count by (__name__) ({__name__=~"upscaled_.*"})')
    }
    assert found == set(RENDER["series"]())


def test_promtool_finds_nothing_to_say_about_the_metrics(watched: Watched) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    status, text = ask(watched.metrics, "/metrics")
    assert status == 200
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_calls_and_their_bytes_are_counted_exactly(watched: Watched) -> None:
    load, found = watched.load, watched.prometheus
    calls = 'upscaled_rpc_duration_seconds_count{service="upscaled.v1.Upscaler",method="Upscale"}'
    assert {dict(labels)["code"]: value for labels, value in found.query(calls).items()} == {
        "OK": CALLS,
        "NOT_FOUND": 1,
        "INVALID_ARGUMENT": 1,
    }
    upscale = '{service="upscaled.v1.Upscaler",method="Upscale"}'
    assert found.value(f"upscaled_rpc_received_bytes_total{upscale}") == load.received_bytes
    assert found.value(f"upscaled_rpc_sent_bytes_total{upscale}") == load.sent_bytes
    assert found.value(f"upscaled_rpc_in_flight{upscale}") == 0
    refused = found.query("upscaled_requests_refused_total > 0")
    assert {dict(labels)["reason"]: value for labels, value in refused.items()} == load.refused


def test_images_jobs_callbacks_and_credits_are_counted_exactly(watched: Watched) -> None:
    load, found = watched.load, watched.prometheus
    assert found.value("sum(upscaled_images_delivered_total)") == load.images
    assert found.value(f'upscaled_output_pixels_delivered_total{{model="{FAST}"}}') == load.pixels
    assert found.value("sum(upscaled_credits_charged_total)") == pytest.approx(load.credits, abs=1e-3)
    ended = found.query("upscaled_jobs_ended_total > 0")
    assert {dict(labels)["state"]: value for labels, value in ended.items()} == {
        "succeeded": 1,
        "cancelled": 1,
    }
    assert found.value('upscaled_callbacks_total{outcome="delivered"}') == 1
    assert found.value("sum(upscaled_jobs)") == 0


def test_every_stage_was_observed(watched: Watched) -> None:
    seen = watched.prometheus.query("upscaled_stage_duration_seconds_count")
    counts = {dict(labels)["stage"]: value for labels, value in seen.items()}
    assert counts.keys() == {"fetch", "decode", "queue", "infer", "resample", "encode", "store", "callback"}
    # The job's image came from a URL, that of the stream in pieces; only the job's file was stored.
    assert (counts["fetch"], counts["store"], counts["callback"]) == (2, 1, 1)
    assert counts["infer"] == counts["encode"] == watched.load.images
    assert watched.prometheus.value('upscaled_stage_duration_seconds_sum{stage="store"}') > 0


def test_devices_and_processes_are_told_apart_from_what_is_left_of_them(watched: Watched) -> None:
    found = watched.prometheus
    device = '{device="cpu"}'
    assert found.value(f"upscaled_device_ready{device}") == 1
    assert found.value(f"upscaled_device_worker_restarts_total{device}") == 1
    assert found.value(f"upscaled_models_loaded{device}") == 1
    busy = found.value(f"upscaled_device_busy_seconds_total{device}")
    # Nobody but anna had anything computed.
    assert found.value('upscaled_caller_device_seconds_total{caller="anna"}') == pytest.approx(busy, rel=0.35)
    # What was computed of the images that were delivered, at least: others were cut off, or begun again.
    assert found.value(f"upscaled_device_pixels_total{device}") >= 0.9999 * watched.load.pixels / 16
    assert found.value("upscaled_batch_size_count") == found.value('upscaled_batch_size_bucket{le="1.0"}') > 0
    # Again by the next worker.
    assert found.value(f'upscaled_model_load_duration_seconds_count{{model="{FAST}"}}') == 2
    memory = found.value(f"upscaled_device_memory_bytes{device}")
    assert 50e6 < memory < found.value(f"upscaled_device_memory_limit_bytes{device}")
    assert found.value('upscaled_process_resident_bytes{process="worker"}') == pytest.approx(memory, rel=0.5)
    for process in ("server", "worker", "codec"):
        assert found.value(f'upscaled_process_cpu_seconds_total{{process="{process}"}}') > 0
        assert found.value(f'upscaled_process_resident_bytes{{process="{process}"}}') > 10e6


def test_a_decoder_that_was_killed_is_a_failure_and_a_bad_image_is_none(watched: Watched) -> None:
    failures = watched.prometheus.query("upscaled_codec_failures_total > 0")
    assert {dict(labels)["reason"]: value for labels, value in failures.items()} == {"killed": 1}


def test_bounds_and_the_end_of_the_certificate_are_told(watched: Watched) -> None:
    found = watched.prometheus
    assert found.value("upscaled_queue_limit_device_seconds") == 600
    assert found.value("upscaled_stored_limit_bytes") == 20 << 30
    free = os.statvfs(watched.files.cert.parent)
    assert found.value("upscaled_data_free_bytes") == pytest.approx(free.f_bavail * free.f_frsize, rel=0.2)
    certificate = x509.load_pem_x509_certificate(watched.files.cert.read_bytes())
    ends = found.value("upscaled_certificate_expiry_timestamp_seconds")
    assert ends == certificate.not_valid_after_utc.timestamp()
    for name in ("units", "pixels", "device_seconds", "oldest_seconds"):
        queues = found.query(f"upscaled_queue_{name}")
        assert {dict(labels)["class"] for labels in queues} == {"interactive", "batch"}
        assert list(queues.values()) == [pytest.approx(0, abs=1e-6)] * 2
