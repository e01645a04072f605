"""`Account`: what a caller has used, and what its receivers verify callbacks with."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from upscaled.v1 import account_pb2, account_pb2_grpc
from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.ledger import Month
from upscaled_server.access.prices import credits_of
from upscaled_server.access.usage import ModelUse
from upscaled_server.api import caller
from upscaled_server.errors import InvalidField, Unauthenticated

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_DAY = 24 * 3600.0
_LONGEST_DAYS = 366
# The years 1 to 9999, what a Timestamp may hold.
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799


class AccountServicer(account_pb2_grpc.AccountServicer):
    def __init__(
        self,
        kept: Credits,
        stored_bytes: Callable[[str], Awaitable[int]],
        webhook_secrets: Callable[[str], Sequence[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stored_bytes` and `webhook_secrets` are asked by the caller's name."""
        self._credits = kept
        self._stored_bytes = stored_bytes
        self._webhook_secrets = webhook_secrets
        self._clock = clock

    async def GetUsage(self, message: account_pb2.GetUsageRequest, context: Context) -> account_pb2.Usage:
        who = caller.identity.get().caller
        if who.name == ANONYMOUS.name:
            raise Unauthenticated(
                "usage is kept by caller, so it needs a key: send it as metadata `authorization: Bearer KEY`"
            )
        now = self._clock()
        end = _to_time("end_time", message.end_time) if message.HasField("end_time") else None
        until = now if end is None else end
        start = Month.at(until).start
        if message.HasField("start_time"):
            start = _to_time("start_time", message.start_time)
        _check_period(start, until)
        return await self._usage(who, await self._credits.usage(who.name, start, end), start, until)

    async def GetWebhookSecrets(
        self, message: account_pb2.GetWebhookSecretsRequest, context: Context
    ) -> account_pb2.WebhookSecrets:
        who = caller.identity.get().caller
        return account_pb2.WebhookSecrets(secrets=self._webhook_secrets(who.name))

    async def _usage(self, who: Caller, uses: list[ModelUse], start: float, end: float) -> account_pb2.Usage:
        remaining = await self._credits.remaining(who)
        monthly = (
            None if remaining is None or who.monthly_credits is None else credits_of(who.monthly_credits)
        )
        return account_pb2.Usage(
            caller=who.name,
            start_time=_timestamp(start),
            end_time=_timestamp(end),
            credits_used=float(sum((use.credits for use in uses), Decimal(0))),
            credits_monthly=None if monthly is None else float(monthly),
            credits_remaining=None if remaining is None else float(remaining),
            stored_bytes=await self._stored_bytes(who.name),
            models=[
                account_pb2.ModelUsage(
                    model=use.model,
                    requests=use.requests,
                    output_megapixels=use.pixels / 1e6,
                    credits=float(use.credits),
                )
                for use in uses
            ],
        )


def _check_period(start: float, end: float) -> None:
    days = (end - start) / _DAY
    if not 0 <= days <= _LONGEST_DAYS:
        raise InvalidField(
            "end_time",
            "is too long after start_time, or before it",
            limit=f"0 to {_LONGEST_DAYS} days",
            actual=f"{days:g} days",
        )


def _to_time(field: str, stamp: Timestamp) -> float:
    if not (_EARLIEST <= stamp.seconds <= _LATEST and 0 <= stamp.nanos < 1_000_000_000):
        raise InvalidField(
            field, "is not a time", limit="the years 1 to 9999", actual=f"{stamp.seconds} seconds"
        )
    return float(stamp.seconds + stamp.nanos / 1e9)


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
