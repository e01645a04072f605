"""Jobs of a cluster whose servers are killed with -9 every 10 seconds, and the leading node of NATS twice:
none is lost, none changes, none is paid twice.

python -m tests.chaos.cluster_jobs [--jobs 1000] [--short] [--out bench-results/reliability/cluster_jobs.json]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.cluster_checks import (
    CALLER,
    SETTINGS,
    charged,
    check_ended,
    note_charges,
    note_outcomes,
    undisturbed,
)
from tests.cluster.faults import Faults, all_serve
from tests.cluster.traffic import PATIENT, Traffic
from tests.cluster.whole import STATE_STREAM, Cluster, cluster
from tests.reliability.record import Record, arguments, end
from upscaled import AsyncClient

_KILL_SECONDS = 10.0
_MOST_REPEATED_SHARE = 0.05


async def disturbed(made: Cluster, key: str, count: int, short: bool) -> tuple[Traffic, Faults]:
    """All jobs from their creation to their outputs, while servers and nodes are killed."""
    async with AsyncClient(made.address, api_key=key, retries=PATIENT) as client:
        traffic, faults = Traffic(client), Faults(made, tell=lambda what: print(f"  {what}", flush=True))
        killing = [
            asyncio.create_task(_kill_once(faults) if short else faults.keep_killing_replicas(_KILL_SECONDS)),
            asyncio.create_task(_kill_leaders(faults, traffic, count, short)),
        ]
        supervising = asyncio.create_task(faults.supervise())
        try:
            await traffic.create(range(count))
            await traffic.finish()
            # What was to happen has happened, even where the jobs were faster.
            await killing[1]
            killing[0].cancel()
            await asyncio.wait(killing)
            await all_serve(made)
        finally:
            for each in (*killing, supervising):
                each.cancel()
            await asyncio.gather(*killing, supervising, return_exceptions=True)
    return traffic, faults


async def _kill_once(faults: Faults) -> None:
    await asyncio.sleep(3.0)
    await faults.kill_replica()


async def _kill_leaders(faults: Faults, traffic: Traffic, count: int, short: bool) -> None:
    """Of the state when a third of the jobs has ended, of the queue when two thirds have."""
    queues = [name for name in await faults.cluster.streams() if not name.startswith("KV_")]
    plans = [(count // 3, STATE_STREAM), (2 * count // 3, queues[0] if queues else STATE_STREAM)]
    for ended, stream in plans[: 1 if short else 2]:
        await traffic.until_ended(ended)
        await faults.kill_leader(stream)


def main() -> int:
    parser = arguments("cluster_jobs", __doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args()
    count = 60 if options.short else options.jobs
    record = Record(
        "cluster_jobs",
        "Cluster",
        f"{count} jobs of 64-pixel images at 3 replicas; kill -9 of a replica "
        + ("once and of NATS' leader once" if options.short else "every 10 s and of NATS' leader twice")
        + "; a job holds with the bytes of an undisturbed run and one charge",
        options.short,
        tried=count,
    )
    began = time.monotonic()
    calm = undisturbed(range(count))
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-cluster-") as folder,
        cluster(Path(folder), callers=[CALLER], with_edge=True, **SETTINGS) as made,
    ):
        key = made.keys[CALLER]
        traffic, faults = asyncio.run(disturbed(made, key, count, options.short))
        usage = charged(made, key)
        ended = check_ended(made, traffic)
    note_outcomes(record, traffic, calm)
    note_charges(record, usage, count)
    record.not_held += ended
    repeated = traffic.repeated / count
    if repeated >= _MOST_REPEATED_SHARE and not options.short:
        record.not_held.append(f"{repeated:.1%} of the work was done again; below 5% was to be")
    record.figures |= {
        "replicas_killed": faults.replicas_killed,
        "nats_leaders_killed": faults.nodes_killed,
        "replicas_that_gave_up_a_start": faults.started_again,
        "attempts_beyond_the_first": traffic.repeated,
        "repeated_share": repeated,
        "most_attempts_of_a_job": max(each.attempts for each in traffic.outcomes.values()),
    }
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
