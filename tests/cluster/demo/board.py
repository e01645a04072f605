"""What the demo knows of the cluster, as rows for people."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import nats.errors

from tests.cluster.replica import JOBS, Replica
from tests.cluster.traffic import Traffic
from tests.cluster.whole import STATE_STREAM, Cluster

_LOOK_SECONDS = 0.5
_ENDED = "upscaled_jobs_ended_total{"


@dataclass
class Board:
    """Kept up to date by `watch`. `metrics` has the address of each server's metrics."""

    cluster: Cluster
    traffic: Traffic
    total: int
    metrics: dict[str, str]
    states: dict[str, str] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    """By server, over all its lives."""
    leader: str = ""
    events: list[str] = field(default_factory=list)
    _of_this_life: dict[tuple[str, int], int] = field(default_factory=dict)

    async def watch(self) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
            while True:
                await asyncio.gather(
                    *(self._look_at(replica, http) for replica in self.cluster.replicas), self._find_leader()
                )
                await asyncio.sleep(_LOOK_SECONDS)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Who, in what state, with what."""
        for replica in self.cluster.replicas:
            share = f"{self.ended.get(replica.name, 0)} jobs ended"
            yield replica.name, self.states.get(replica.name, ""), f"{share}, started {replica.lives} times"
        for name, node in self.cluster.nodes.items():
            state = "up" if node.runs else "down"
            yield f"nats {name}", state, "leads the state" if name == self.leader else ""

    @property
    def counts(self) -> str:
        states = self.traffic.states
        return (
            f"{self.traffic.created} of {self.total} submitted, {states['succeeded']} succeeded, "
            f"{states.total() - states['succeeded']} failed"
        )

    async def _look_at(self, replica: Replica, http: httpx.AsyncClient) -> None:
        if not replica.runs:
            self.states[replica.name] = "down"
            return
        serving, jobs = await asyncio.gather(
            asyncio.to_thread(replica.is_serving), asyncio.to_thread(replica.is_serving, JOBS)
        )
        self.states[replica.name] = "serving" if jobs else "calls only" if serving else "starting"
        with suppress(httpx.HTTPError):
            text = (await http.get(f"http://{self.metrics[replica.name]}/metrics")).text
            found = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(_ENDED))
            self._of_this_life[replica.name, replica.lives] = int(found)
            of_all = [count for (name, _), count in self._of_this_life.items() if name == replica.name]
            self.ended[replica.name] = sum(of_all)

    async def _find_leader(self) -> None:
        with suppress(nats.errors.Error, TimeoutError, OSError):
            node = await self.cluster.leader(STATE_STREAM)
            self.leader = next((name for name, each in self.cluster.nodes.items() if each is node), "")
