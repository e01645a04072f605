"""A duty is one replica's at a time, and always somebody's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.reached_store import Reached

from upscaled_server.errors import Unavailable
from upscaled_server.state.duty import Alone, Elected
from upscaled_server.state.store import Store

SECONDS = 1.0
PATIENT = 3.0
"""Where nobody is to lose the duty, however busy the machine is."""


class Works:
    """Who is at work, and that nobody ever is beside another."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0
        self.begun: list[str] = []
        self._changed = asyncio.Condition()

    def of(self, name: str) -> Callable[[], Any]:
        async def work() -> None:
            self.running.append(name)
            self.begun.append(name)
            self.most = max(self.most, len(self.running))
            await self._tell()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)  # it takes a little to end
                self.running.remove(name)
                await self._tell()

        return work

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(holds)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def replicas(
    store: Store, works: Works, *names: str, seconds: float = SECONDS
) -> AsyncIterator[dict[str, tuple[Any, ...]]]:
    """By name: what it has of the store, its duty, and the task that runs it."""
    made: dict[str, tuple[Any, ...]] = {}
    for name in names:
        reached = Reached(store)
        duty = Elected(reached, "sweeping", owner=name, seconds=seconds)
        made[name] = reached, duty, asyncio.create_task(duty.run(works.of(name)))
    try:
        yield made
    finally:
        tasks = [task for _, _, task in made.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_server_by_itself_works_at_once_and_raises_what_the_work_raises() -> None:
    works = Works()
    task = asyncio.create_task(Alone().run(works.of("a")))
    await works.until(lambda: works.running == ["a"])
    task.cancel()
    await asyncio.wait([task])
    assert works.running == []

    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await Alone().run(fails)


async def test_of_many_replicas_one_works(store: Store) -> None:
    works = Works()
    async with replicas(store, works, "a", "b", "c", seconds=PATIENT) as made:
        await works.until(lambda: len(works.running) == 1)
        await asyncio.sleep(1.2 * PATIENT)  # longer than anybody waits for a leader that says nothing
        assert len(works.begun) == 1
        assert [name for name, (_, duty, _) in made.items() if duty.leads] == works.running
    assert works.most == 1


async def test_a_leader_that_stops_is_replaced_and_leaves_nothing_behind(store: Store) -> None:
    works = Works()
    async with replicas(store, works, "a", "b", seconds=PATIENT) as made:
        await works.until(lambda: len(works.running) == 1)
        first = works.running[0]
        made[first][2].cancel()
        await works.until(lambda: len(works.begun) == 2)
        assert works.begun[1] != first
    assert works.most == 1
    assert await store.range("duties") == []


@pytest.mark.parametrize("state", ["away", "silent"])
async def test_a_leader_that_is_cut_off_ends_its_work_before_another_begins(store: Store, state: str) -> None:
    works = Works()
    async with replicas(store, works, "a", "b") as made:
        await works.until(lambda: len(works.running) == 1)
        first = works.running[0]
        made[first][0].become(state)
        await works.until(lambda: len(works.begun) == 2)
        assert works.begun[1] != first
        assert not made[first][1].leads
        made[first][0].become("near")
        await asyncio.sleep(SECONDS)
    assert works.most == 1


async def test_a_killed_leader_is_replaced(store: Store) -> None:
    works = Works()
    async with replicas(store, works, "a", "b") as made:
        await works.until(lambda: len(works.running) == 1)
        first = works.running[0]
        made[first][0].become("away")  # so that it cannot say that it ends
        made[first][2].cancel()
        await works.until(lambda: len(works.begun) == 2)
        assert works.begun[1] != first


async def test_one_replica_goes_on_by_itself_when_the_store_is_back(store: Store) -> None:
    works = Works()
    async with replicas(store, works, "a") as made:
        for times in (1, 2):
            await works.until(lambda times=times: len(works.begun) == times)  # type: ignore[misc]
            made["a"][0].become("away")
            await works.until(lambda: not works.running)
            made["a"][0].become("near")
        await works.until(lambda: len(works.begun) == 3)


async def test_whoever_takes_the_entry_away_ends_the_work(store: Store) -> None:
    works = Works()
    async with replicas(store, works, "a") as made:
        await works.until(lambda: works.running == ["a"])
        while works.running:
            entry = await store.get("duties/sweeping")
            assert entry is not None
            try:
                await store.update(entry.key, b'{"owner": "x", "term": "x"}', entry.version)
            except Exception:
                continue
            await works.until(lambda: not works.running)
        assert not made["a"][1].leads


async def test_a_change_whose_answer_is_lost_is_still_its_own(store: Store) -> None:
    works = Works()
    async with replicas(store, works, "a", seconds=PATIENT) as made:
        await works.until(lambda: works.running == ["a"])
        reached, duty, _ = made["a"]
        update, lost = reached._store.update, 0

        async def without_answer(key: str, value: bytes, version: int) -> int:
            nonlocal lost
            changed: int = await update(key, value, version)
            if lost < 2:
                lost += 1
                raise Unavailable("no answer")
            return changed

        reached.update = without_answer
        with store.watch("duties/sweeping") as watch:
            for _ in range(4):  # the two that are lost, and as many after them
                await anext(watch)
        assert lost == 2
        assert duty.leads
        assert works.begun == ["a"]


async def test_work_that_fails_ends_the_duty_and_lets_another_try(store: Store) -> None:
    works = Works()

    async def fails() -> None:
        raise ValueError("broken")

    duty = Elected(store, "sweeping", seconds=SECONDS)
    with pytest.raises(ValueError, match="broken"):
        await duty.run(fails)
    assert not duty.leads
    async with replicas(store, works, "b"):
        await works.until(lambda: works.running == ["b"])


async def test_duties_of_different_names_do_not_touch_each_other(store: Store) -> None:
    works = Works()
    duties = [Elected(store, name, seconds=PATIENT) for name in ("one", "two")]
    tasks = [asyncio.create_task(duty.run(works.of(str(n)))) for n, duty in enumerate(duties)]
    await works.until(lambda: len(works.running) == 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_whatever_the_store_is_like_nobody_works_beside_another(store: Store) -> None:
    works, chance = Works(), random.Random(7)
    async with replicas(store, works, "a", "b", "c") as made:
        for _ in range(25):
            name = chance.choice("abc")
            made[name][0].become(chance.choice(["near", "near", "away", "silent"]))
            await asyncio.sleep(chance.uniform(0, SECONDS / 2))
        for reached, _, _ in made.values():
            reached.become("near")
        await works.until(lambda: len(works.running) == 1)
    assert works.most == 1
    assert len(works.begun) > 2
