"""Servers that are killed in the middle of work let nobody spend more, and give back what they had set
aside."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from credit_spender import CALLER, credits_over
from tests.both_stores import nats_opener
from tests.nats_servers import NatsServer, settings_for

from upscaled_server.access import ledger
from upscaled_server.access.ledger import Month

_SPENDER = Path(__file__).with_name("credit_spender.py")


async def _spender(server: NatsServer, prefix: str, seed: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_SPENDER),
        server.url,
        prefix,
        str(seed),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_servers_that_are_killed_while_they_spend_leave_exactly_what_there_is(
    nats_server: NatsServer,
) -> None:
    settings = settings_for([nats_server], cluster_max_state_bytes=64 << 20)
    opened = nats_opener(nats_server, settings)
    month = Month.at(datetime.now(UTC).timestamp())
    async with opened() as store, opened() as other, asyncio.timeout(100):
        spenders = [await _spender(nats_server, settings.cluster_prefix, seed) for seed in range(4)]
        try:
            for each in spenders:
                assert each.stdin is not None
                each.stdin.write(b"go\n")
            for number in (0, 1):
                while len(await store.range(f"ledger/{CALLER.name}")) < 40 * (number + 1):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                spenders[number].kill()
                await spenders[number].wait()
            assert len(await store.range("aside"))  # of those that are killed and those that go on
            # They end when nothing is left, which is so once what was set aside by the killed counts no more.
            assert [await each.wait() for each in spenders[2:]] == [0, 0]
        finally:
            for each in spenders:
                if each.returncode is None:
                    each.kill()
                    await each.wait()
        charges = [charged async for charged in ledger.charges(store, CALLER.name, month)]
        assert sum((charged.credits for charged in charges), Decimal(0)) == CALLER.monthly_credits
        assert await store.range("aside") == []
        kept = [credits_over(each) for each in (store, other)]
        usage = [await each.usage(CALLER.name, month.start) for each in kept]
        assert usage[0] == usage[1]
        assert usage[0][0].requests == len(charges)
        for each in kept:
            await each.aclose()
