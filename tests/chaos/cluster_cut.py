"""The network between one server and NATS is cut for a minute: the others do its jobs, it answers calls.

Calls are of callers without a key, whose credits are not kept: what is charged must be written down.

python -m tests.chaos.cluster_cut [--short] [--out bench-results/reliability/cluster_cut.json]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
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
from tests.cluster.cutting import Network, network
from tests.cluster.replica import JOBS, Replica
from tests.cluster.traffic import MODEL, PATIENT, Traffic, picture
from tests.cluster.whole import Cluster, serving, unstarted
from tests.reliability.record import Record, arguments, end
from upscaled import AsyncClient, UnavailableError, UpscaledError

_CALL_EVERY_SECONDS = 0.5
_LOOK_SECONDS = 0.2
_REFUSED_WITHIN_SECONDS = 15.0
_RECOVERED_WITHIN_SECONDS = 60.0


@dataclass
class Seen:
    """Of the server that is cut off, by seconds since the cut, or since it was mended."""

    calls: int = 0
    failed_calls: list[str] = field(default_factory=list)
    longest_call: float = 0.0
    jobs_refused_after: float | None = None
    not_ready: int = 0
    not_refused: list[str] = field(default_factory=list)
    refusal_seconds: float = 0.0
    jobs_taken_again_after: float | None = None


async def keep_calling(replica: Replica, seen: Seen) -> None:
    """One call after the other, none of them tried again."""
    async with AsyncClient(replica.address, api_key=None, retries=0) as client:
        while True:
            began = time.monotonic()
            try:
                await client.upscale(picture(seen.calls), model=MODEL, timeout=60)
            except UpscaledError as error:
                seen.failed_calls.append(f"{type(error).__name__}: {error}")
            seen.calls += 1
            seen.longest_call = max(seen.longest_call, time.monotonic() - began)
            await asyncio.sleep(_CALL_EVERY_SECONDS)


async def watch_cut(replica: Replica, seconds: float, seen: Seen) -> None:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if seen.jobs_refused_after is None and not await asyncio.to_thread(replica.is_serving, JOBS):
            seen.jobs_refused_after = passed
        seen.not_ready += not await asyncio.to_thread(replica.is_serving)
        await asyncio.sleep(_LOOK_SECONDS)


async def ask_for_what_needs_nats(replica: Replica, key: str, seen: Seen) -> None:
    """In the middle of the cut: a job, and a call that is to be charged. Both must be refused, soon."""
    async with AsyncClient(replica.address, api_key=key, retries=0, timeout=60) as client:
        for name, asked in (
            ("a job", client.jobs.create(picture(0), model=MODEL)),
            ("a call that costs credits", client.upscale(picture(0), model=MODEL)),
        ):
            began = time.monotonic()
            try:
                await asked
                seen.not_refused.append(f"{name} was taken")
            except UnavailableError:
                pass
            except UpscaledError as error:
                seen.not_refused.append(f"{name}: {type(error).__name__}: {error}")
            seen.refusal_seconds = max(seen.refusal_seconds, time.monotonic() - began)


async def cut(made: Cluster, between: Network, seconds: float, jobs: int, side: int) -> tuple[Traffic, Seen]:
    """Jobs from creation to outputs; the cut begins when a few of them have ended."""
    victim, seen = made.replicas[0], Seen()
    async with AsyncClient(made.address, api_key=made.keys[CALLER], retries=PATIENT) as client:
        traffic = Traffic(client, side)
        await traffic.create(range(jobs))
        finishing = asyncio.create_task(traffic.finish())
        await traffic.until_ended(jobs // 20)
        between.cut()
        print(f"  cut with {traffic.states.total()} of {jobs} jobs ended", flush=True)
        calling = asyncio.create_task(keep_calling(victim, seen))
        try:
            watching = asyncio.create_task(watch_cut(victim, seconds, seen))
            await asyncio.sleep(seconds / 2)
            await ask_for_what_needs_nats(victim, made.keys[CALLER], seen)
            await watching
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        between.mend()
        print(f"  mended with {traffic.states.total()} of {jobs} jobs ended", flush=True)
        seen.jobs_taken_again_after = await _recovered(victim)
        await finishing
    return traffic, seen


async def _recovered(replica: Replica) -> float | None:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < _RECOVERED_WITHIN_SECONDS:
        if await asyncio.to_thread(replica.is_serving, JOBS):
            return passed
        await asyncio.sleep(_LOOK_SECONDS)
    return None


def judge(record: Record, seen: Seen) -> None:
    record.tried += seen.calls
    record.held += seen.calls - len(seen.failed_calls)
    record.not_held += [f"a call during the cut: {each}" for each in seen.failed_calls[:5]]
    if seen.not_ready:
        record.not_held.append(f"the server said {seen.not_ready} times that it is not ready for calls")
    if seen.jobs_refused_after is None:
        record.not_held.append("health of Jobs stayed SERVING")
    record.not_held += seen.not_refused
    if seen.refusal_seconds > _REFUSED_WITHIN_SECONDS:
        record.not_held.append(f"what needs NATS was refused after {seen.refusal_seconds:.1f} s")
    if seen.jobs_taken_again_after is None:
        record.not_held.append(f"Jobs were not SERVING {_RECOVERED_WITHIN_SECONDS:g} s after it was mended")
    record.figures |= {
        "calls_during_the_cut": seen.calls,
        "longest_call_seconds": seen.longest_call,
        "longest_refusal_seconds": seen.refusal_seconds,
        "jobs_not_serving_after_seconds": -1.0
        if seen.jobs_refused_after is None
        else seen.jobs_refused_after,
        "jobs_serving_again_after_seconds": -1.0
        if seen.jobs_taken_again_after is None
        else seen.jobs_taken_again_after,
    }


async def run(record: Record, folder: Path, seconds: float, jobs: int, side: int) -> None:
    calm = await asyncio.to_thread(undisturbed, range(jobs), side)
    async with AsyncExitStack() as stack:
        inner = ExitStack()
        stack.push_async_callback(asyncio.to_thread, inner.close)
        made = await asyncio.to_thread(
            inner.enter_context,
            unstarted(folder, replicas=3, callers=[CALLER], UPSCALED_AUTH="none", **SETTINGS),
        )
        between = await stack.enter_async_context(network(list(made.nodes.values())))
        victim = made.replicas[0]
        victim.environ = {**victim.environ, "UPSCALED_CLUSTER_URL": ",".join(between.urls)}
        await asyncio.to_thread(inner.enter_context, serving(made, with_edge=True))
        traffic, seen = await cut(made, between, seconds, jobs, side)
        note_outcomes(record, traffic, calm)
        note_charges(record, await asyncio.to_thread(charged, made, made.keys[CALLER]), jobs)
        judge(record, seen)
        record.figures["attempts_beyond_the_first"] = traffic.repeated
        record.not_held += await asyncio.to_thread(check_ended, made, traffic)


def main() -> int:
    options = arguments("cluster_cut", __doc__.split("\n")[0]).parse_args()
    seconds, jobs, side = (15.0, 60, 96) if options.short else (60.0, 400, 96)
    record = Record(
        "cluster_cut",
        "Cluster",
        f"{jobs} jobs at 3 replicas, one of which loses the network to NATS for {seconds:g} s, silently; a "
        "job holds with the bytes of an undisturbed run, a call to that replica meanwhile if it is answered",
        options.short,
        tried=jobs,
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upscaled-cluster-") as folder:
        asyncio.run(run(record, Path(folder), seconds, jobs, side))
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
