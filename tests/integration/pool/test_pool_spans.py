"""Batches of a real worker in the traces of the images that were in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pool_tools import Handle, StartPool, kill_worker, make_plan, run_image, until

from upscaled_server.pool.pool import Pool
from upscaled_server.telemetry import otlp, tracing
from upscaled_server.tiling.plan import RunPlan


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(found))
    tracing.record_with(otlp._Recorder(provider.get_tracer("test")))
    yield found
    tracing.record_with(None)


async def traced_image(pool: Pool, plan: RunPlan, name: str) -> np.ndarray:
    with tracing.within(tracing.start(name)):
        return await run_image(pool, plan)


async def test_images_that_are_computed_together_and_their_batch_name_each_other(
    start_pool: StartPool, handle: Handle, exporter: InMemorySpanExporter
) -> None:
    plan, other = make_plan(24, 20), make_plan(30, 20)
    handle.tell("hold")
    handle.tell("together")
    async with start_pool(steps_ahead=1) as pool:
        first = asyncio.create_task(traced_image(pool, other, "first"))
        await handle.until_held()
        running = [asyncio.create_task(traced_image(pool, plan, f"image {each}")) for each in range(4)]
        await until(lambda: pool.stats.waiting_steps == 4)
        handle.untell("hold")
        await asyncio.gather(first, *running)
    assert "24 24 24 24" in handle.lines("steps")
    spans = exporter.get_finished_spans()
    images = {span.context.span_id: span for span in spans if span.name.startswith("image")}
    (batch,) = (span for span in spans if span.attributes and span.attributes.get("upscaled.batch_size") == 4)
    assert {link.context.span_id for link in batch.links} == set(images)
    assert batch.parent is not None
    assert batch.parent.span_id in images
    assert batch.attributes is not None
    assert float(batch.attributes["upscaled.device_seconds"]) > 0  # type: ignore[arg-type]
    for image in images.values():
        assert [link.context.span_id for link in image.links] == [batch.context.span_id]


async def test_a_worker_that_ends_shows_as_a_failed_batch_and_the_image_has_another(
    start_pool: StartPool, handle: Handle, exporter: InMemorySpanExporter
) -> None:
    handle.tell("hold")
    async with start_pool() as pool:
        running = asyncio.create_task(traced_image(pool, make_plan(24, 20), "image"))
        await handle.until_held()
        await kill_worker(pool)
        handle.untell("hold")
        await running
    batches = [span for span in exporter.get_finished_spans() if span.name == "batch"]
    assert not batches[0].status.is_ok
    assert batches[-1].status.status_code.name == "UNSET"
