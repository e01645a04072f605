"""Spans as the server sees them, without anything that records them and with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from upscaled_server.pool.dispatch import Dispatcher
from upscaled_server.pool.scheduler.policy import Policy, Unit
from upscaled_server.settings import Settings, SettingsError
from upscaled_server.telemetry import otlp, tracing
from upscaled_server.telemetry.otlp import TracingSettings

REMOTE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(found))
    tracing.record_with(otlp._Recorder(provider.get_tracer("test")))
    yield found
    tracing.record_with(None)


def test_off_a_span_carries_the_trace_of_its_caller_and_records_nothing() -> None:
    assert not tracing.recording()
    with tracing.within(tracing.start("call", parent=tracing.remote(REMOTE))) as call:
        assert tracing.current() is call
        assert tracing.start("stage").traceparent == REMOTE
        assert call.trace_id == "ab" * 16
    assert tracing.current().traceparent == ""
    assert tracing.start("alone") is tracing.NOTHING


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        REMOTE.upper(),
        REMOTE + "-x",
        REMOTE + "\n",
        "ff" + REMOTE[2:],
        "00-" + "0" * 32 + "-" + "cd" * 8 + "-01",
        "00-" + "ab" * 16 + "-" + "0" * 16 + "-01",
    ],
)
def test_a_header_that_is_not_valid_is_no_trace(header: str) -> None:
    assert tracing.remote(header) is tracing.NOTHING


def test_a_span_goes_on_with_the_trace_of_its_caller(exporter: InMemorySpanExporter) -> None:
    with tracing.within(tracing.start("call", parent=tracing.remote(REMOTE))) as call:
        assert call.traceparent.startswith("00-" + "ab" * 16)
        tracing.start("stage").end()
    stage, above = exporter.get_finished_spans()
    assert stage.parent is not None
    assert stage.parent.span_id == above.context.span_id
    assert above.parent is not None
    assert above.parent.span_id == int("cd" * 8, 16)
    assert above.parent.is_remote


def test_who_does_not_want_to_be_recorded_is_not(exporter: InMemorySpanExporter) -> None:
    unsampled = REMOTE[:-1] + "0"
    with tracing.within(tracing.start("call", parent=tracing.remote(unsampled))) as call:
        tracing.start("stage").end()
        assert call.traceparent.endswith("-00")
    assert not exporter.get_finished_spans()


def test_an_activity_is_one_span_with_the_time_of_its_turns(exporter: InMemorySpanExporter) -> None:
    activity = tracing.Activity("encode", tracing.NOTHING)
    activity.turn(100.0, 101.0)
    activity.turn(105.0, 107.5)
    activity.end()
    (span,) = exporter.get_finished_spans()
    assert span.attributes == {"upscaled.busy_seconds": 3.5}
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(7.5, abs=0.05)


async def test_a_batch_is_linked_with_all_images_in_it(exporter: InMemorySpanExporter) -> None:
    dispatcher = Dispatcher(("cpu",), Policy(ahead=1, batch_size=4))
    images = [tracing.start(f"image {number}") for number in range(3)]

    def unit(image: tracing.Span, key: str) -> Unit:
        return Unit(device="cpu", cost=1.0, caller="a", weight=1.0, batch_key=key, span=image)

    first = unit(images[0], "other")
    turn = dispatcher.submit(first)
    together = [dispatcher.submit(unit(image, "same")) for image in images]
    await dispatcher.wait(turn)
    dispatcher.done(first, 0.5)
    for each in together:
        await dispatcher.wait(each)
        dispatcher.done(each[0], 0.25)
    dispatcher.close()
    for image in images:
        image.end()
    spans = exporter.get_finished_spans()
    alone, batch = (span for span in spans if span.name == "batch")
    ids = [span.context.span_id for span in spans if span.name.startswith("image")]
    assert [link.context.span_id for link in batch.links] == ids
    assert batch.attributes is not None
    assert batch.attributes["upscaled.batch_size"] == 3
    assert batch.attributes["upscaled.device_seconds"] == 0.75
    assert alone.attributes is not None
    assert alone.attributes["upscaled.device_seconds"] == 0.5
    for image in (span for span in spans if span.name.startswith("image")):
        assert batch.context.span_id in [link.context.span_id for link in image.links]


async def test_a_batch_that_is_lost_with_its_worker_has_failed(exporter: InMemorySpanExporter) -> None:
    dispatcher = Dispatcher(("cpu",), Policy())
    turn = dispatcher.submit(Unit(device="cpu", cost=1.0, caller="a", weight=1.0))
    await dispatcher.wait(turn)
    dispatcher.done(turn[0], None)
    dispatcher.close()
    (span,) = exporter.get_finished_spans()
    assert not span.status.is_ok


def settings(**environ: str) -> TracingSettings:
    return Settings((TracingSettings,), environ)[TracingSettings]


@pytest.mark.parametrize(
    "endpoint",
    ["collector:4317", "ftp://collector", "http://", "http://ann:secret@collector", "http://c?a=b"],
)
def test_an_endpoint_that_cannot_be_used_is_refused_at_the_start(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="UPSCALED_TRACES_ENDPOINT"):
        settings(UPSCALED_TRACES_ENDPOINT=endpoint)


def test_without_the_extra_an_endpoint_is_refused_and_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "_PACKAGES", ("opentelemetry.sdk_that_is_not_there",))
    assert settings().traces_endpoint == ""
    with pytest.raises(SettingsError, match=r"upscaled\[otel\]"):
        settings(UPSCALED_TRACES_ENDPOINT="http://collector:4318")


def test_the_standard_variables_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert otlp._resource("1.2").attributes["service.name"] == "upscaled"
    assert otlp._resource("1.2").attributes["service.version"] == "1.2"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    resource = otlp._resource("1.2").attributes
    assert resource["service.name"] == "pictures"
    assert resource["deployment.environment"] == "test"
