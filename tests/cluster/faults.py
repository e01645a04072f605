"""What goes wrong in a cluster, on purpose: servers and nodes of NATS that are killed with -9, and come
back.

A server that is started while NATS elects a leader may give up; as an orchestrator does, `supervise` starts
it again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import nats.errors

from tests.cluster.replica import START_SECONDS, Replica
from tests.cluster.whole import STATE_STREAM, Cluster
from tests.nats_servers import NatsServer

_LEADER_SECONDS = 30.0
NODE_AWAY_SECONDS = 6.0
"""Long enough for the others to elect another leader."""


@dataclass
class Faults:
    """Counts what it does; `moments` has when, in seconds since it was made, and to whom."""

    cluster: Cluster
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    began: float = field(default_factory=time.monotonic)
    replicas_killed: int = 0
    nodes_killed: int = 0
    started_again: int = 0
    """Servers that had ended by themselves."""
    moments: list[tuple[float, str]] = field(default_factory=list)
    tell: Callable[[str], None] = lambda _: None
    _being_killed: Replica | None = None

    async def kill_replica(self) -> Replica:
        """One that serves, as soon as there is one, and start it again at once; returns without waiting until
        it serves."""
        victim = await self._serving()
        self._being_killed = victim
        try:
            await asyncio.to_thread(victim.kill)
            self.replicas_killed += 1
            self._note(f"{victim.name} killed")
            victim.start()
        finally:
            self._being_killed = None
        return victim

    async def supervise(self) -> None:
        """Until cancelled."""
        while True:
            for replica in self.cluster.replicas:
                if not replica.runs and replica is not self._being_killed:
                    self.started_again += 1
                    self._note(f"{replica.name} ended by itself, and is started again")
                    replica.start()
            await asyncio.sleep(0.5)

    async def _serving(self) -> Replica:
        async with asyncio.timeout(START_SECONDS):
            while True:
                for replica in self.chance.sample(self.cluster.replicas, len(self.cluster.replicas)):
                    if await asyncio.to_thread(replica.is_serving):
                        return replica
                await asyncio.sleep(0.2)

    async def keep_killing_replicas(self, every_seconds: float) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            await self.kill_replica()

    async def kill_leader(self, stream: str = STATE_STREAM) -> NatsServer:
        """The node that leads the stream, which comes back a little later."""
        node = await self._leader(stream)
        await asyncio.to_thread(node.kill)
        self.nodes_killed += 1
        self._note(f"{self._name(node)}, the leader of {stream}, killed")
        await asyncio.sleep(NODE_AWAY_SECONDS)
        await asyncio.to_thread(node.start)
        self._note(f"{self._name(node)} started")
        return node

    async def _leader(self, stream: str) -> NatsServer:
        """There is none for a moment after another one went."""
        async with asyncio.timeout(_LEADER_SECONDS):
            while True:
                with suppress(nats.errors.Error, TimeoutError, OSError):
                    if (node := await self.cluster.leader(stream)) is not None:
                        return node
                await asyncio.sleep(0.2)

    def _name(self, node: NatsServer) -> str:
        return next(name for name, each in self.cluster.nodes.items() if each is node)

    def _note(self, what: str) -> None:
        self.moments.append((round(time.monotonic() - self.began, 1), what))
        self.tell(what)


async def all_serve(cluster: Cluster) -> None:
    """Every server that was killed is back. Raises `TimeoutError`."""
    async with asyncio.timeout(START_SECONDS):
        for replica in cluster.replicas:
            while not await asyncio.to_thread(replica.is_serving):  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.2)
