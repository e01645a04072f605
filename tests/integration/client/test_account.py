"""What a caller has used, and what callbacks are signed with."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from fake_server import FakeServer

from upscaled import ModelUsage


def test_usage_comes_with_its_numbers(client: Any, server: FakeServer) -> None:
    usage = client.usage(start=date(2026, 11, 1), end=datetime(2026, 11, 8, 12, tzinfo=UTC))
    assert (usage.caller, usage.credits_used, usage.stored_bytes) == ("anna", 12.5, 3_000_000)
    assert (usage.credits_monthly, usage.credits_remaining) == (100, 87.5)
    assert usage.start_time == datetime(2026, 11, 1, tzinfo=UTC)
    assert usage.models == (ModelUsage("real-esrgan-x4-plus", 7, 3.5, 12.5),)
    assert server.calls[-1].request.end_time.ToDatetime() == datetime(2026, 11, 8, 12)


def test_unlimited_credits_are_none_and_no_period_is_the_server_s_choice(
    client: Any, server: FakeServer
) -> None:
    server.account.limited = False
    usage = client.usage()
    assert (usage.credits_monthly, usage.credits_remaining) == (None, None)
    assert not server.calls[-1].request.HasField("start_time")


def test_webhook_secrets_come_newest_first(client: Any) -> None:
    assert client.webhook_secrets() == ["whsec_bmV3", "whsec_b2xk"]
