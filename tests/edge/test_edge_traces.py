"""Envoy passes a caller's trace on, with JSON, gRPC-Web and gRPC alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import running_server
from tests.e2e.trace_collector import Collector, collecting_http
from tests.edge.conftest import MODEL, Edge, running_edge
from tests.edge.test_http import body_of
from upscaled import Client, trace_parent
from upscaled.v1 import server_pb2

PARENT_ID = "cd" * 8


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting_http() as running:
        yield running


@pytest.fixture(scope="module")
def traced_edge(collector: Collector) -> Iterator[Edge]:
    with (
        running_server(UPSCALED_TRACES_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100") as server,
        running_edge(server) as running,
    ):
        yield running


def header(trace_id: str) -> str:
    return f"00-{trace_id}-{PARENT_ID}-01"


def parents(collector: Collector, trace_id: str, method: str) -> list[str]:
    return [span.parent_id for span in collector.trace(trace_id, method) if span.name == method]


def test_over_json(traced_edge: Edge, collector: Collector, picture: Path) -> None:
    trace_id = "1a" * 16
    answer = httpx.post(
        f"{traced_edge.url}/v1/upscale",
        json=body_of(picture, scale=2),
        headers={"traceparent": header(trace_id)},
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    assert parents(collector, trace_id, "upscaled.v1.Upscaler/Upscale") == [PARENT_ID]
    assert {"infer", "encode"} <= {span.name for span in collector.trace(trace_id, "encode")}


def test_over_grpc_web_from_a_page_of_another_origin(traced_edge: Edge, collector: Collector) -> None:
    trace_id, path = "1b" * 16, f"{traced_edge.url}/upscaled.v1.Server/GetServerInfo"
    asked = httpx.options(
        path,
        headers={
            "origin": "https://example.com",
            "access-control-request-method": "POST",
            "access-control-request-headers": "traceparent,content-type,x-grpc-web",
        },
        trust_env=False,
    )
    assert "traceparent" in asked.headers["access-control-allow-headers"]
    message = server_pb2.GetServerInfoRequest().SerializeToString()
    answer = httpx.post(
        path,
        content=b"\0" + len(message).to_bytes(4, "big") + message,
        headers={
            "content-type": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "traceparent": header(trace_id),
        },
        trust_env=False,
    )
    assert answer.status_code == 200
    assert parents(collector, trace_id, "upscaled.v1.Server/GetServerInfo") == [PARENT_ID]


def test_over_grpc_and_a_job(traced_edge: Edge, collector: Collector, picture: Path) -> None:
    trace_id = "1c" * 16
    with Client(traced_edge.address) as client:
        with trace_parent(header(trace_id)):
            job = client.jobs.create(picture, model=MODEL)
        job.wait()
    assert parents(collector, trace_id, "upscaled.v1.Jobs/CreateJob") == [PARENT_ID]
    assert {"job", "infer"} <= {span.name for span in collector.trace(trace_id, "job", "infer")}
