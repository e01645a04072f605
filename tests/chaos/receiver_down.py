"""Receivers of callbacks that are down or never answer, and a sender that is killed meanwhile.

python -m tests.chaos.receiver_down [--jobs 1000] [--kills 50] [--short]
    [--out bench-results/reliability/receiver_down.json]

The sender of the server over a real store and real sockets, with a clock that is moved: half a day passes, in
which one receiver refuses and another one does not answer. A kill is a store that neither changes nor answers
any more, after a random number of changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.callbacks.dying_store import DyingStore
from tests.integration.callbacks.fake_clock import FakeClock
from tests.integration.callbacks.post_office import Post
from tests.integration.callbacks.receiver import Receiver
from tests.reliability.record import Record, arguments, end
from upscaled_server.jobs.callbacks.sender import CallbackSender
from upscaled_server.jobs.job import Job
from upscaled_server.state.sqlite import SqliteStore

_DEAD_SHARE = 10
_DOWN_SECONDS = 12 * 3600.0
_MOST_CHANGES = 120
_CALLERS = 10
_TRY_SECONDS = 2.0


@dataclass
class World:
    """`dead` takes calls and never answers; `alive` refuses for half a day, and then takes them."""

    post: Post
    alive: Receiver
    dead: Receiver
    told: list[Job] = field(default_factory=list)
    untold: list[Job] = field(default_factory=list)
    kills: int = 0

    async def make(self, count: int) -> None:
        """Jobs that have ended, each with a note that somebody is to be told."""
        sender = await self.post.start()
        for number in range(count):
            is_dead = number % _DEAD_SHARE == 0
            url = (self.dead if is_dead else self.alive).url()
            job = await self.post.ended_job(url, f"caller-{number % _CALLERS}")
            (self.untold if is_dead else self.told).append(job)
            await sender.enqueue(job)
        await self.end(sender)

    async def kill_one(self, chance: random.Random) -> None:
        """A life that ends in the middle of its work, and some time until the next."""
        self.post.clock.move(chance.uniform(0, 2 * _DOWN_SECONDS / 50))
        dying = DyingStore(self.post.store, chance.randint(1, _MOST_CHANGES))
        sender = await self.post.start(dying)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.post.clock.until(lambda: dying.left == 0)
        self.kills += dying.left == 0
        await self.end(sender)

    async def end(self, sender: CallbackSender) -> None:
        await sender.aclose()
        self.post.senders.remove(sender)

    async def tell_all(self) -> int:
        """One more life that nobody kills, until everybody who answers has been told; how many it told."""
        sender = await self.post.start()
        while sender.pending > len(self.untold):
            self.post.clock.move(600)
            await asyncio.sleep(0.5)
        told = sender.counts.delivered
        await self.end(sender)
        return told

    async def tell_beside_the_dead(self, count: int) -> float:
        """The seconds of the moved clock until new jobs are told of, while calls to the dead one are open."""
        sender = await self.post.start()
        self.post.clock.move(24 * 3600.0)
        while not self.dead.open:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        began = self.post.clock.time
        jobs = [await self.post.ended_job(self.alive.url(), "caller-0") for _ in range(count)]
        for job in jobs:
            await sender.enqueue(job)
        self.post.clock.move(0.001)  # notes are of whole milliseconds, the next one at times
        async with asyncio.timeout(300):
            while sender.counts.delivered < count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        passed = self.post.clock.time - began
        self.told += jobs
        await self.end(sender)
        return passed

    async def states(self, jobs: list[Job]) -> Counter[str]:
        return Counter([(await self.post.callback_of(job)).state.name for job in jobs])


async def _run(folder: Path, jobs: int, kills: int, chance: random.Random, record: Record) -> None:
    store = await SqliteStore.open(folder / "state.db")
    alive, dead = Receiver("503 Down"), Receiver(None)
    await alive.start()
    await dead.start()
    settings: dict[str, object] = {
        "callback_http": True,
        "callback_allow": f"127.0.0.0/8:{alive.port},127.0.0.0/8:{dead.port}",
        "callback_seconds": _TRY_SECONDS,
    }
    world = World(Post(store, FakeClock(), settings), alive, dead)
    began = world.post.clock.time
    try:
        await world.make(jobs)
        while world.kills < kills:
            if world.post.clock.time - began > _DOWN_SECONDS:
                alive.answer = "200 OK"
            await world.kill_one(chance)
        alive.answer = "200 OK"
        last = await world.tell_all()
        beside = await world.tell_beside_the_dead(100)
        states = await world.states(world.told)
        waiting = await world.states(world.untold)
        noted = len(await world.post.noted())
    finally:
        await alive.stop()
        await dead.stop()
        await store.aclose()
    ids = {call.headers["webhook-id"] for call in alive.calls}
    missing = {f"msg_{job.id}" for job in world.told} - ids
    record.tried = len(world.told) + len(world.untold)
    record.held = states["DELIVERED"] - len(missing) + waiting["PENDING"]
    if missing:
        record.not_held.append(f"{len(missing)} are written down as told, and were not")
    if noted != waiting["PENDING"]:
        record.not_held.append(f"{noted} are noted to be told, {waiting['PENDING']} are")
    if beside > 1:
        record.not_held.append(f"beside a dead receiver others waited for {beside:.0f} s")
    record.figures = {
        "kills": world.kills,
        "told": states["DELIVERED"],
        "told_by_the_last_life": last,
        "calls_that_were_taken_or_refused": len(alive.calls),
        "to_the_dead_receiver_pending": waiting["PENDING"],
        "to_the_dead_receiver_calls": len(dead.calls),
        "to_the_dead_receiver_at_once": dead.most,
        "seconds_passed_on_the_moved_clock": round(world.post.clock.time - began),
        "seconds_others_waited_beside_the_dead_receiver": beside,
    }


def main() -> int:
    parser = arguments("receiver_down", __doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    jobs, kills = (100, 5) if options.short else (options.jobs, options.kills)
    record = Record(
        "receiver_down",
        "Receiver down",
        "callbacks of 1,000 jobs, nine of ten to a receiver that refuses for half a day and the others to "
        "one that never answers, while the sender is killed again and again: everybody who answers is told, "
        "what cannot be told stays noted, and a receiver that does not answer delays no other",
        options.short,
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upscaled-receivers-") as folder:
        asyncio.run(_run(Path(folder), jobs, kills, random.Random(options.seed), record))
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
