"""All servers of a cluster are stopped and started one after the other under load, and no caller notices.

python -m tests.chaos.cluster_rolling [--short] [--out bench-results/reliability/cluster_rolling.json]
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cluster_checks import CALLER, SETTINGS, charged, note_charges, undisturbed
from tests.cluster.traffic import MODEL, picture, scale_of
from tests.cluster.whole import Cluster, cluster
from tests.reliability.record import Record, arguments, end
from upscaled import AsyncClient, UpscaledError

_CALLERS = 6
_PICTURES = 40
_ONE_JOB_IN = 3
_WAIT_SECONDS = 300.0
_BETWEEN_SECONDS = 3.0


@dataclass
class Load:
    """Callers with the SDK's own retries. `images` counts results that were delivered."""

    calm: dict[int, str]
    numbers: Iterator[int] = field(default_factory=itertools.count)
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    over: bool = False

    async def caller(self, client: AsyncClient) -> None:
        while not self.over:
            number = next(self.numbers)
            kind = "job" if number % _ONE_JOB_IN == 0 else "call"
            began = time.monotonic()
            try:
                data = await (self._job if kind == "job" else self._call)(client, number % _PICTURES)
            except UpscaledError as error:
                self.failed.append(f"{kind} {number}: {type(error).__name__}: {error}")
            else:
                if hashlib.sha256(data).hexdigest() != self.calm[number % _PICTURES]:
                    self.failed.append(f"{kind} {number}: other bytes than undisturbed")
            self.done[kind] += 1
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)

    async def _call(self, client: AsyncClient, number: int) -> bytes:
        result = await client.upscale(picture(number), model=MODEL, scale=scale_of(number))
        assert result.data is not None
        return result.data

    async def _job(self, client: AsyncClient, number: int) -> bytes:
        job = await client.jobs.create(picture(number), model=MODEL, scale=scale_of(number))
        await job.wait(_WAIT_SECONDS)
        return await job.read()


async def roll(made: Cluster, rounds: int) -> list[float]:
    """Seconds that each server was away."""
    away = []
    for _ in range(rounds):
        for replica in made.replicas:
            began = time.monotonic()
            status = await asyncio.to_thread(replica.stop)
            assert status == 0, f"{replica.name} ended with {status}:\n{replica.tail()}"
            replica.start()
            await asyncio.to_thread(replica.wait)
            away.append(time.monotonic() - began)
            print(f"  {replica.name} was away for {away[-1]:.1f} s", flush=True)
            await asyncio.sleep(_BETWEEN_SECONDS)
    return away


async def run(made: Cluster, key: str, load: Load, rounds: int) -> list[float]:
    async with AsyncClient(made.address, api_key=key) as client:
        callers = [asyncio.create_task(load.caller(client)) for _ in range(_CALLERS)]
        try:
            await asyncio.sleep(_BETWEEN_SECONDS)
            away = await roll(made, rounds)
        finally:
            load.over = True
            await asyncio.gather(*callers)
    return away


def main() -> int:
    options = arguments("cluster_rolling", __doc__.split("\n")[0]).parse_args()
    rounds = 1 if options.short else 3
    record = Record(
        "cluster_rolling",
        "Cluster",
        f"calls and jobs of {_CALLERS} callers at 3 replicas, each of which is stopped with SIGTERM and "
        f"started again, {rounds} times; a call or job holds if the SDK, with its own retries, has the right "
        "bytes",
        options.short,
    )
    began = time.monotonic()
    load = Load(undisturbed(range(_PICTURES)))
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-cluster-") as folder,
        cluster(Path(folder), callers=[CALLER], with_edge=True, **SETTINGS) as made,
    ):
        key = made.keys[CALLER]
        away = asyncio.run(run(made, key, load, rounds))
        usage = charged(made, key)
    record.tried = load.done.total()
    record.held = record.tried - len(load.failed)
    record.not_held += load.failed[:20]
    # An answer that was lost with its server is made, and paid, once more.
    paid = sum(each.requests for each in usage.models)
    if not load.failed and paid < record.tried:
        note_charges(record, usage, record.tried)
    record.figures |= {
        "calls": load.done["call"],
        "jobs": load.done["job"],
        "restarts": len(away),
        "longest_away_seconds": max(away),
        "longest_call_or_job_seconds": load.longest_seconds,
        "results_charged": paid,
    }
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
