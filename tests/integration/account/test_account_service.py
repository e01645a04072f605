"""`Account` over gRPC: what the caller of the key has used, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from upscaled.v1 import account_pb2, account_pb2_grpc
from upscaled_server.access.access import Access
from upscaled_server.access.caller import Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.directory import Directory
from upscaled_server.access.prices import PriceSettings
from upscaled_server.access.settings import AccessSettings
from upscaled_server.api.access_interceptor import AccessInterceptor
from upscaled_server.api.account import AccountServicer
from upscaled_server.api.errors_interceptor import ErrorInterceptor
from upscaled_server.state.sqlite import SqliteStore

# 22 November 2026, noon
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
DAY = 24 * 3600.0
STORED = {"anna": 4096, "ben": 0}


@dataclass
class Service:
    """A server with the callers anna and ben; `at` moves its clock."""

    stub: account_pb2_grpc.AccountStub
    kept: Credits
    directory: Directory
    now: float = NOW

    async def usage(self, key: str | None, **period: Timestamp) -> account_pb2.Usage:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        request = account_pb2.GetUsageRequest(**period)
        return await self.stub.GetUsage(request, metadata=metadata, timeout=20)

    async def key(self, caller: str) -> str:
        return (await self.directory.create_key(caller))[1]

    async def work(self, caller: str, model: str, megapixels: int) -> None:
        who = self.directory.caller(caller).caller
        pixels = megapixels * 1_000_000
        async with self.kept.reserved(who, "", model, pixels) as charge:
            if charge is not None:
                await charge.settle(pixels)


async def _service(folder: Path, prices: str) -> AsyncIterator[Service]:
    store = await SqliteStore.open(folder / "state.db")
    directory = Directory(store)
    await directory.create_caller(Caller("anna", monthly_credits=10))
    await directory.create_caller(Caller("ben"))

    def clock() -> float:
        return service.now

    kept = Credits(store, PriceSettings.model_validate({"prices": prices}), clock)
    access = Access(directory, AccessSettings())
    server = grpc.aio.server(
        interceptors=[ErrorInterceptor(), AccessInterceptor(access, max_message_seconds=20)]
    )

    async def stored_bytes(caller: str) -> int:
        return STORED[caller]

    servicer = AccountServicer(kept, stored_bytes, lambda caller: [f"whsec_{caller}"], clock)
    account_pb2_grpc.add_AccountServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        service = Service(account_pb2_grpc.AccountStub(channel), kept, directory)
        yield service
    await server.stop(None)
    await store.aclose()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async for service in _service(tmp_path, "default=1+0.5"):
        yield service


def _time(moment: float) -> Timestamp:
    return Timestamp(seconds=int(moment))


async def test_usage_of_this_month_is_told_by_model(service: Service) -> None:
    service.now = NOW - 30 * DAY
    await service.work("anna", "real-esrgan-x4-plus", 2)
    service.now = NOW
    await service.work("anna", "real-esrgan-x4-plus", 2)
    await service.work("anna", "real-esrgan-animevideo-v3", 1)
    await service.work("ben", "real-esrgan-x4-plus", 8)
    usage = await service.usage(await service.key("anna"))
    assert (usage.caller, usage.stored_bytes) == ("anna", 4096)
    assert (usage.credits_used, usage.credits_monthly, usage.credits_remaining) == (3.5, 10, 6.5)
    assert usage.start_time.ToDatetime() == datetime(2026, 11, 1)
    assert usage.end_time.ToSeconds() == NOW
    assert [(use.model, use.requests, use.output_megapixels, use.credits) for use in usage.models] == [
        ("real-esrgan-animevideo-v3", 1, 1, 1.5),
        ("real-esrgan-x4-plus", 1, 2, 2),
    ]


async def test_a_period_holds_what_was_admitted_in_it(service: Service) -> None:
    for days in (-40, -2, -1, 0):
        service.now = NOW + days * DAY
        await service.work("anna", "real-esrgan-x4-plus", 2)
    key = await service.key("anna")
    usage = await service.usage(key, start_time=_time(NOW - 2 * DAY), end_time=_time(NOW))
    assert usage.credits_used == 4
    assert (await service.usage(key, start_time=_time(NOW - 60 * DAY))).credits_used == 8


async def test_a_caller_without_a_limit_has_no_end_of_credits(service: Service) -> None:
    await service.work("ben", "real-esrgan-x4-plus", 8)
    usage = await service.usage(await service.key("ben"))
    assert usage.credits_used == 5
    assert not usage.HasField("credits_monthly")
    assert not usage.HasField("credits_remaining")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (_time(NOW - 367 * DAY), _time(NOW)),
        (_time(NOW), _time(NOW - 1)),
        (Timestamp(seconds=-(10**12)), _time(NOW)),
        (_time(NOW), Timestamp(seconds=10**12)),
        (_time(NOW - 1), Timestamp(seconds=int(NOW), nanos=-1)),
    ],
)
async def test_a_period_that_is_none_or_too_long_is_refused(
    service: Service, start: Timestamp, end: Timestamp
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.usage(await service.key("anna"), start_time=start, end_time=end)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_a_key_there_is_no_usage(service: Service) -> None:
    for _ in ("no key was ever made", "keys are needed"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.usage(None)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await service.key("anna")


async def test_secrets_of_callbacks_are_the_callers_own(service: Service) -> None:
    for caller in ("anna", "ben"):
        secrets = await service.stub.GetWebhookSecrets(
            account_pb2.GetWebhookSecretsRequest(),
            metadata=(("authorization", f"Bearer {await service.key(caller)}"),),
            timeout=20,
        )
        assert list(secrets.secrets) == [f"whsec_{caller}"]


async def test_where_credits_are_not_kept_usage_is_what_is_stored(tmp_path: Path) -> None:
    async for service in _service(tmp_path, ""):
        await service.work("anna", "real-esrgan-x4-plus", 2)
        usage = await service.usage(await service.key("anna"))
        assert (usage.credits_used, usage.stored_bytes, list(usage.models)) == (0, 4096, [])
        assert not usage.HasField("credits_remaining")
