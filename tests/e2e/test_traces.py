"""One trace from the application through the call, the queue, the devices and the job to its callback."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from PIL import Image

from tests.conftest import REPO
from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.receiver import receiver
from tests.e2e.trace_collector import Collector, Span, collecting_grpc, collecting_http, unexplained
from upscaled import Client, trace_parent

FAST = "real-esrgan-animevideo-v3"
PARENT_ID = "cd" * 8
UPSCALE = "upscaled.v1.Upscaler/Upscale"
STREAM = "upscaled.v1.Upscaler/UpscaleStream"
CREATE = "upscaled.v1.Jobs/CreateJob"
SERVER, CONSUMER = 2, 5


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def parent(trace_id: str, flags: str = "01") -> str:
    return f"00-{trace_id}-{PARENT_ID}-{flags}"


def traced_server(
    collector: Collector, log: Path | None = None, **environ: str
) -> AbstractContextManager[RunningServer]:
    return running_server(
        log, UPSCALED_TRACES_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100", **environ
    )


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting_http() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[RunningServer]:
    with traced_server(collector) as running:
        yield running


def one(spans: list[Span], name: str) -> Span:
    (found,) = (span for span in spans if span.name == name)
    return found


def children(spans: list[Span], of: Span) -> list[Span]:
    return [span for span in spans if span.parent_id == of.span_id]


def at_work(spans: list[Span]) -> list[Span]:
    """Those that explain their time: a stage that mostly waited for its next turn explains nothing, and a
    call or job nothing by itself."""
    return [
        span
        for span in spans
        if span.kind not in (SERVER, CONSUMER)
        and span.attributes.get("upscaled.busy_seconds", span.ended - span.began)
        >= (span.ended - span.began) / 2
    ]


def test_the_trace_of_a_job_has_every_stage_and_no_gap() -> None:
    trace_id = "a1" * 16
    with (
        receiver(picture(560, 400)) as other,
        collecting_http() as collector,
        traced_server(
            collector,
            UPSCALED_FETCH_ALLOW=other.origin.removeprefix("http://"),
            UPSCALED_CALLBACK_ALLOW=other.origin.removeprefix("http://"),
            UPSCALED_CALLBACK_HTTP="true",
        ) as server,
        Client(server.address) as client,
    ):
        with trace_parent(parent(trace_id)):
            job = client.jobs.create(
                url=f"{other.origin}/image", model=FAST, callback_url=f"{other.origin}/told"
            )
        job.wait()
        spans = collector.trace(trace_id, "conclude", "callback")
    created, run, called_back = one(spans, CREATE), one(spans, "job"), one(spans, "callback")
    assert created.parent_id == PARENT_ID
    assert run.parent_id == called_back.parent_id == created.span_id
    assert run.attributes["upscaled.job_id"] == job.id
    assert run.attributes["upscaled.job_state"] == "succeeded"
    stages = children(spans, run)
    assert {span.name for span in stages} >= {
        *("job queue", "fetch", "decode", "queue", "infer", "encode", "store", "conclude"),
    }
    batches = [span for span in spans if span.name == "batch"]
    infer = one(stages, "infer")
    assert batches
    assert all(batch.parent_id == infer.span_id and infer.span_id in batch.links for batch in batches)
    assert set(infer.links) == {batch.span_id for batch in batches}
    assert sum(batch.attributes["upscaled.device_seconds"] for batch in batches) > 0
    total = run.ended - run.began
    assert unexplained(run, at_work(stages + batches)) <= 0.05 * total
    assert called_back.began - run.ended <= 0.05 * total


@pytest.mark.parametrize("collecting", [collecting_http, collecting_grpc])
def test_a_call_is_part_of_the_applications_span(
    collecting: Callable[[], AbstractContextManager[Collector]],
) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    protocol = "grpc" if collecting is collecting_grpc else "http/protobuf"
    with (
        collecting() as collector,
        traced_server(collector, UPSCALED_TRACES_PROTOCOL=protocol, OTEL_SERVICE_NAME="pictures") as server,
        Client(server.address) as client,
    ):
        with tracer.start_as_current_span("application") as span:
            client.upscale(picture(40, 30), model=FAST)
        client.upscale(picture(40, 30), model=FAST)
        context = span.get_span_context()
        spans = collector.trace(trace.format_trace_id(context.trace_id), UPSCALE, "encode")
    call = one(spans, UPSCALE)
    assert call.parent_id == trace.format_span_id(context.span_id)
    assert call.kind == SERVER
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert call.resource["service.name"] == "pictures"
    assert {"decode", "queue", "infer", "encode"} <= {span.name for span in children(spans, call)}
    alone = [span for span in collector.spans if span.name == UPSCALE and span.trace_id != call.trace_id]
    assert [span.parent_id for span in alone] == [""]  # outside of the block, a trace of its own


def test_a_stream_is_traced_with_what_its_reader_takes(traced: RunningServer, collector: Collector) -> None:
    trace_id = "b1" * 16
    with Client(traced.address) as client, trace_parent(parent(trace_id)):
        for _ in client.upscale_stream(picture(64, 64), model=FAST):
            pass
    spans = collector.trace(trace_id, STREAM, "fetch", "encode")
    assert {"fetch", "decode", "infer", "encode", "send"} <= {
        span.name for span in children(spans, one(spans, STREAM))
    }


def test_a_refusal_is_the_callers_and_no_failure_of_the_span(
    traced: RunningServer, collector: Collector
) -> None:
    trace_id = "c1" * 16
    with (
        Client(traced.address) as client,
        trace_parent(parent(trace_id)),
        pytest.raises(Exception, match="no"),
    ):
        client.upscale(picture(8, 8), model="nothing")
    call = one(collector.trace(trace_id, UPSCALE), UPSCALE)
    assert call.attributes["rpc.grpc.status_code"] == 5
    assert not call.failed


def test_a_callers_wish_not_to_be_recorded_and_the_ratio_hold() -> None:
    with (
        collecting_http() as collector,
        traced_server(collector, UPSCALED_TRACES_SAMPLE_RATIO="0") as server,
        Client(server.address) as client,
    ):
        client.upscale(picture(16, 16), model=FAST)
        with trace_parent(parent("e1" * 16, "00")):
            client.upscale(picture(16, 16), model=FAST)
        with trace_parent(parent("e2" * 16)):
            client.upscale(picture(16, 16), model=FAST)
        collector.trace("e2" * 16, UPSCALE)
        server.stop()
        assert {span.trace_id for span in collector.spans} == {"e2" * 16}


def test_a_job_that_is_run_again_after_a_restart_stays_in_its_trace(tmp_path: Path) -> None:
    folder, trace_id = tmp_path / "data", "f1" * 16
    folder.mkdir()
    with collecting_http() as collector:
        with (
            traced_server(collector, UPSCALED_DATA_DIR=str(folder)) as server,
            Client(server.address) as client,
        ):
            with trace_parent(parent(trace_id)):
                job = client.jobs.create(picture(900, 700), model=FAST)
            created = one(collector.trace(trace_id, CREATE), CREATE)
            while client.jobs.get(job.id).state != "running":
                time.sleep(0.02)
            server.stop(signal.SIGKILL)
        with (
            traced_server(collector, UPSCALED_DATA_DIR=str(folder)) as server,
            Client(server.address) as client,
        ):
            client.jobs.get(job.id).wait()
            run = one(collector.trace(trace_id, "job", "conclude"), "job")
    assert run.parent_id == created.span_id
    assert run.attributes["upscaled.attempt"] == 2
    assert run.attributes["upscaled.job_state"] == "succeeded"


def test_off_by_default_nothing_of_it_is_loaded_or_sent() -> None:
    code = (
        "import sys\n"
        "from upscaled_server import app\n"
        "from upscaled_server.settings import Settings\n"
        "app.App(Settings(app.SETTINGS, {'UPSCALED_DATA_DIR': sys.argv[1]}))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "/nonexistent"], capture_output=True, text=True, cwd=REPO, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
    with collecting_http() as collector:
        # The library's own variable does not turn anything on.
        with (
            running_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server,
            Client(server.address) as client,
            trace_parent(parent("a2" * 16)),
        ):
            client.upscale(picture(16, 16), model=FAST)
        assert collector.requests == 0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_that_never_answers_fails_no_call_and_holds_up_no_end(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            running_server(
                UPSCALED_TRACES_ENDPOINT=url,
                UPSCALED_TRACES_PROTOCOL=protocol,
                OTEL_BSP_SCHEDULE_DELAY="100",
                OTEL_BSP_MAX_QUEUE_SIZE="64",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
                # Longer than this test may take: neither a call nor the end waits for it.
                OTEL_EXPORTER_OTLP_TIMEOUT="600",
            ) as server,
            Client(server.address) as client,
        ):
            for _ in range(30):  # more spans than the queue takes
                client.upscale(picture(16, 16), model=FAST)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
