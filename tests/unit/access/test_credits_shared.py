"""Servers that share a store spend no more together than one alone may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from tests.both_stores import OpenStore, nats_opener
from tests.nats_servers import NatsServer
from tests.reached_store import Reached
from tests.unit.access.credit_tools import MEGAPIXEL, MODEL, NOW, caller_with, charges_of, pay

from upscaled_server.access.caller import Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.ledger import Month
from upscaled_server.access.prices import PriceSettings
from upscaled_server.access.stored_aside import COUNTS_SECONDS, AsideInStore
from upscaled_server.errors import QuotaExceeded, Unavailable
from upscaled_server.state.store import Entry, Store
from upscaled_server.state.watching import MAX_UNREAD

PRICES = PriceSettings.model_validate({"prices": "default=1+1"})


@dataclass
class Server:
    """One of several. `reached`: how it sees the store."""

    reached: Reached
    clock: Clock
    counts_seconds: float = COUNTS_SECONDS
    aside: AsideInStore = field(init=False)
    kept: Credits = field(init=False)

    def __post_init__(self) -> None:
        self.aside = AsideInStore(self.reached, clock=self.clock, counts_seconds=self.counts_seconds)
        self.kept = Credits(self.reached, PRICES, self.clock, aside=self.aside)


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def servers(*stores: Store, **options: float) -> AsyncIterator[list[Server]]:
    made = [Server(Reached(store), Clock(), **options) for store in stores]
    try:
        yield made
    finally:
        for each in made:
            each.reached.become("near")
            await each.kept.aclose()


async def spent(store: Store, caller: Caller) -> Decimal:
    return sum((charged.credits for charged in await charges_of(store, caller)), Decimal(0))


async def asides(store: Store) -> list[str]:
    return [entry.key for entry in await store.range("aside")]


async def test_what_runs_at_one_server_is_set_aside_for_all(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(3)
        async with here.kept.reserved(caller, "", MODEL, MEGAPIXEL) as charge:
            with pytest.raises(QuotaExceeded, match=r"1 are left of 3 .* 2 set aside for work that runs"):
                await pay(there.kept, caller)
            assert charge is not None
            await charge.settle(MEGAPIXEL // 2)
        assert await pay(there.kept, caller) == 2
        assert await here.kept.remaining(caller) == await there.kept.remaining(caller) == 0
        assert await asides(store) == []


async def test_of_several_that_begin_at_once_as_many_are_admitted_as_have_their_place(store: Store) -> None:
    async with servers(store, store, store) as made:
        caller = caller_with(5)
        outcomes = await asyncio.gather(
            *(pay(made[number % 3].kept, caller) for number in range(9)), return_exceptions=True
        )
        assert sum(outcome == 2 for outcome in outcomes) == 2
        assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 7
        assert await spent(store, caller) == 4


async def test_what_another_server_charged_is_known_whoever_asks(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(10)
        for number in range(5):
            assert await there.kept.remaining(caller) == 10 - 2 * number
            await pay(here.kept, caller)
        with pytest.raises(QuotaExceeded, match="0 are left"):
            await pay(there.kept, caller)
        usage = [await each.kept.usage(caller.name, Month.at(NOW).start) for each in (here, there)]
        assert usage[0] == usage[1]
        assert (usage[0][0].requests, usage[0][0].credits) == (5, Decimal(10))


async def test_what_others_charge_is_counted_as_it_comes(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(10)
        assert await there.kept.remaining(caller) == 10
        following = asyncio.create_task(there.kept.follow())
        await pay(here.kept, caller)
        account = there.kept._accounts.of(caller.name, Month.at(NOW))
        async with asyncio.timeout(20):
            while account._sums.credits != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_server_that_is_far_behind_counts_anew(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(10)
        assert await there.kept.remaining(caller) == 10
        await pay(here.kept, caller)
        for begin in range(0, MAX_UNREAD + 50, 50):
            await asyncio.gather(
                *(store.create(f"ledger/ben/202611/{begin + number}", b"") for number in range(50))
            )
        assert await there.kept.remaining(caller) == 8
        await pay(here.kept, caller)
        assert await there.kept.remaining(caller) == 6


async def test_a_job_that_goes_on_at_another_server_is_charged_once_and_raised(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(2)
        assert await there.kept.remaining(caller) == 2
        assert await pay(here.kept, caller, "call-a", share=0.25) == Decimal("0.5")
        assert await pay(there.kept, caller, "call-a") == 2
        assert await pay(here.kept, caller, "call-a") == 2
        assert [charged.credits for charged in await charges_of(store, caller)] == [2]
        assert await here.kept.remaining(caller) == await there.kept.remaining(caller) == 0


async def test_two_attempts_at_one_job_need_its_price_once(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(2)
        async with here.kept.reserved(caller, "call-a", MODEL, MEGAPIXEL):
            assert await pay(there.kept, caller, "call-a") == 2
            assert await pay(here.kept, caller, "call-a") == 2
        assert await spent(store, caller) == 2


async def test_an_attempt_that_fails_leaves_what_the_other_needs(store: Store) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(3)
        async with here.kept.reserved(caller, "call-a", MODEL, MEGAPIXEL) as charge:
            async with there.kept.reserved(caller, "call-a", MODEL, MEGAPIXEL):
                pass
            with pytest.raises(QuotaExceeded):
                await pay(there.kept, caller)
            assert charge is not None
            await charge.settle(MEGAPIXEL)


async def test_what_is_charged_while_another_looks_is_seen_in_one_place_or_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(2)
        assert await there.kept.remaining(caller) == 2
        async with here.kept.reserved(caller, "", MODEL, MEGAPIXEL) as charge:
            assert charge is not None

            async def settled_meanwhile(prefix: str, **options: Any) -> list[Entry]:
                if not settled:
                    settled.append(await charge.settle(MEGAPIXEL))
                return await store.range(prefix, **options)

            settled: list[Decimal] = []
            monkeypatch.setattr(there.reached, "range", settled_meanwhile, raising=False)
            with pytest.raises(QuotaExceeded):
                await pay(there.kept, caller)
            assert settled == [2]


async def test_what_is_renewed_while_another_looks_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers(store, store) as (here, there):
        caller = caller_with(2)
        async with here.kept.reserved(caller, "", MODEL, MEGAPIXEL):

            async def renewed_meanwhile(prefix: str, **options: Any) -> list[Entry]:
                for held in here.aside._held:
                    await here.aside._renew(held)
                return await store.range(prefix, **options)

            monkeypatch.setattr(there.reached, "range", renewed_meanwhile, raising=False)
            with pytest.raises(QuotaExceeded):
                await pay(there.kept, caller)


async def test_nothing_is_written_for_a_caller_without_a_limit(store: Store) -> None:
    async with servers(store) as (here,):
        async with here.kept.reserved(caller_with(None), "", MODEL, MEGAPIXEL) as charge:
            assert await asides(store) == []
            assert charge is not None
            await charge.settle(MEGAPIXEL)
        assert await spent(store, caller_with(None)) == 2


async def test_what_a_killed_server_set_aside_counts_until_its_time_is_over(store: Store) -> None:
    async with servers(store, store) as (here, killed):
        caller = caller_with(2)
        async with killed.kept.reserved(caller, "", MODEL, MEGAPIXEL):
            killed.reached.become("away")
        assert len(await asides(store)) == 1
        here.clock.now += COUNTS_SECONDS
        with pytest.raises(QuotaExceeded, match="2 set aside"):
            await pay(here.kept, caller)
        here.clock.now += 11
        assert await pay(here.kept, caller) == 2
        await here.kept.aclose()
        assert await asides(store) == []


async def test_what_nobody_asks_for_is_swept(store: Store) -> None:
    async with servers(store, store) as (here, killed):
        for caller in (caller_with(2), Caller("anna", monthly_credits=2)):
            async with killed.kept.reserved(caller, "", MODEL, MEGAPIXEL):
                killed.reached.become("away")
            killed.reached.become("near")
        here.clock.now += COUNTS_SECONDS / 2
        assert await here.aside.sweep() == 0
        here.clock.now += COUNTS_SECONDS
        assert await here.aside.sweep() == 2
        assert await asides(store) == []


async def test_work_that_takes_long_stays_set_aside(store: Store) -> None:
    async with servers(store, store, counts_seconds=0.3) as (here, there):
        caller = caller_with(2)
        async with here.kept.reserved(caller, "", MODEL, MEGAPIXEL) as charge:
            (key,) = await asides(store)
            with store.watch(key) as watch:
                for _ in range(3):
                    here.clock.now += 20
                    there.clock.now += 20
                    await anext(watch)
                with pytest.raises(QuotaExceeded):
                    await pay(there.kept, caller)
            assert charge is not None
            await charge.settle(MEGAPIXEL)
        assert await asides(store) == []


async def test_without_an_answer_of_the_store_nothing_begins_and_nothing_stays(store: Store) -> None:
    async with servers(store) as (here,):
        caller = caller_with(2)
        here.reached.become("away")
        with pytest.raises(Unavailable):
            await pay(here.kept, caller)
        here.reached.become("near")
        assert await pay(here.kept, caller) == 2


async def test_who_leaves_while_it_is_set_aside_leaves_nothing_behind(store: Store) -> None:
    async with servers(store) as (here,):
        caller = caller_with(2)
        for turns in range(12):
            paying = asyncio.create_task(pay(here.kept, caller_with(1)))
            paying.cancel()
            waiting = asyncio.create_task(_hold(here, caller))
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            waiting.cancel()
            await asyncio.gather(paying, waiting, return_exceptions=True)
        here.reached.become("near")
        await here.aside.aclose()
        assert await asides(store) == []
        assert await pay(here.kept, caller) == 2


async def _hold(server: Server, caller: Caller) -> None:
    async with server.kept.reserved(caller, "", MODEL, MEGAPIXEL):
        await asyncio.Event().wait()


@pytest.mark.parametrize("seed", range(8))
async def test_together_they_never_spend_more_than_there_is(open_store: OpenStore, seed: int) -> None:
    async with open_store() as store, servers(store, store, store) as made:
        await _spend_at_random(made, store, random.Random(seed), rounds=20)


@pytest.mark.parametrize("seed", range(4))
async def test_nor_do_servers_with_clients_of_their_own(nats_server: NatsServer, seed: int) -> None:
    opened = nats_opener(nats_server)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened()) for _ in range(3)]
        made = await stack.enter_async_context(servers(*stores))
        await _spend_at_random(made, stores[0], random.Random(seed), rounds=20)


async def _spend_at_random(made: list[Server], store: Store, chance: random.Random, rounds: int) -> None:
    """Work of any size at any server, tried again here and there, left in the middle, cancelled, one server
    killed."""
    limit = 40
    caller = caller_with(limit)

    async def work(server: Server) -> None:
        entry = chance.choice(["", "", f"call-{chance.randrange(6)}"])
        megapixels = int(entry[-1]) if entry else chance.randrange(5)
        share = chance.choice([1, 1, 1, 0.5])
        async with server.kept.reserved(caller, entry, MODEL, megapixels * MEGAPIXEL + 1) as charge:
            await asyncio.sleep(chance.random() / 200)
            if charge is not None and chance.random() < 0.9:
                await charge.settle(max(1, int(megapixels * MEGAPIXEL * share)))

    admitted = refused = 0
    for turn in range(rounds):
        tasks = []
        for _ in range(chance.randrange(1, 7)):
            task = asyncio.create_task(work(chance.choice(made)))
            if chance.random() < 0.15:
                asyncio.get_running_loop().call_later(chance.random() / 100, task.cancel)
            tasks.append(task)
        if turn == rounds // 2:
            made[2].reached.become("away")
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            admitted += outcome is None
            refused += isinstance(outcome, QuotaExceeded)
            assert outcome is None or isinstance(
                outcome, QuotaExceeded | asyncio.CancelledError | Unavailable
            ), outcome
    for each in made:
        each.reached.become("near")
    total = await spent(store, caller)
    usage = await made[0].kept.usage(caller.name, Month.at(NOW).start)
    for each in made:
        async with asyncio.timeout(20):
            # What was told last may be on its way.
            while await each.kept.remaining(caller) != limit - total:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert await each.kept.usage(caller.name, Month.at(NOW).start) == usage
        await each.kept.aclose()
    assert total <= limit
    assert admitted
    assert refused
    again = [Server(Reached(store), Clock(NOW + 2 * COUNTS_SECONDS)) for _ in range(2)]
    assert [await each.kept.remaining(caller) for each in again] == [limit - total] * 2
    # All that was set aside is there again.
    if limit - total >= 1:
        pixels = int((limit - total - 1) * MEGAPIXEL)
        async with again[0].kept.reserved(caller, "", MODEL, pixels) as charge:
            assert charge is not None
    for each in again:
        await each.kept.aclose()
