"""One Envoy in front of several servers."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.edge import edge
from tests.e2e.conftest import running_server
from tests.ports import free_ports
from upscaled import AsyncClient, Client, UnavailableError


def _answered(metrics: str) -> float:
    """How many callers were told about the server by this one."""
    text = httpx.get(f"http://{metrics}/metrics", timeout=30, trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "upscaled_rpc_duration_seconds_count" and sample.labels["method"] == "GetServerInfo"
    )


async def _ask_at_once(address: str, callers: int) -> None:
    async with AsyncClient(address, retries=0, timeout=30) as client:
        answers = await asyncio.gather(*(client.server_info() for _ in range(callers)))
    assert all(answer.version for answer in answers)


def test_calls_go_to_all_that_serve_and_none_fails_when_one_ends() -> None:
    metrics = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with (
        running_server(UPSCALED_METRICS_LISTEN=metrics[0]) as first,
        running_server(UPSCALED_METRICS_LISTEN=metrics[1]) as second,
        edge([first.address, second.address]) as address,
    ):
        # A test of what is there, not of what is tried again.
        with Client(address, retries=0, timeout=30) as client:
            for _ in range(20):
                assert client.server_info().version
            found = list(map(_answered, metrics))
            assert sum(found) == 20
            assert min(found) > 0, found
            second.process.kill()
            second.process.wait(60)
            # At first health does not tell: half of the calls go to the dead one, and so would one in four of
            # what is tried again, did Envoy not draw another one.
            asyncio.run(_ask_at_once(address, 200))
            for _ in range(300):
                assert client.server_info().version
        assert _answered(metrics[0]) == found[0] + 500
        first.process.kill()
        first.process.wait(60)
        with Client(address, retries=0, timeout=30) as client, pytest.raises(UnavailableError):
            client.server_info()
