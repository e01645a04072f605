"""Health of the server, and of services that do not work though the server does."""

from __future__ import annotations

from grpc_health.v1 import health_pb2

from upscaled_server.api.health import Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _all(health: Health) -> list[int]:
    names = ("", "a.Works", "a.Keeps")
    return [
        (await health._servicer.Check(health_pb2.HealthCheckRequest(service=name), None)).status
        for name in names
    ]


async def test_an_impaired_service_does_not_serve_and_the_others_do() -> None:
    health = Health(["a.Works", "a.Keeps"])
    await health.ready(True)
    assert await _all(health) == [SERVING, SERVING, SERVING]
    await health.impaired("a.Keeps", True)
    assert await _all(health) == [SERVING, SERVING, NOT_SERVING]
    assert health.is_ready
    await health.impaired("a.Keeps", False)
    assert await _all(health) == [SERVING, SERVING, SERVING]


async def test_a_server_that_stops_or_comes_up_keeps_what_is_impaired() -> None:
    health = Health(["a.Works", "a.Keeps"])
    await health.ready(False)
    await health.impaired("a.Keeps", True)
    assert await _all(health) == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
    await health.ready(True)
    assert await _all(health) == [SERVING, SERVING, NOT_SERVING]
    await health.ready(False)
    await health.impaired("a.Keeps", False)
    assert await _all(health) == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
