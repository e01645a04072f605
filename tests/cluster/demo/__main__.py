"""Jobs at three servers behind Envoy, sharing three nodes of NATS and an object store, all on this machine.

python -m tests.cluster.demo [--jobs 100] [--out bench-results/cluster-demo.json]

When a quarter of the jobs has ended, a server is killed with -9; at half of them the leading node of NATS.
Both come back. Ends with what became of the jobs, and exits with 1 if any was lost or failed, or if the
caller paid for more or less than was delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.cluster.demo.board import Board
from tests.cluster.demo.showing import show
from tests.cluster.faults import Faults, all_serve
from tests.cluster.traffic import PATIENT, Traffic
from tests.cluster.whole import Cluster, serving, unstarted
from tests.ports import free_ports
from upscaled import AsyncClient

_CALLER = "demo"
_PRICE = 1.0
_REPLICAS = 3
_SIDE = 128


async def play(made: Cluster, metrics: dict[str, str], jobs: int) -> dict[str, object]:
    """Everything between the start and the end; what became of it."""
    began = time.monotonic()
    async with AsyncClient(made.address, api_key=made.keys[_CALLER], retries=PATIENT) as client:
        traffic = Traffic(client, _SIDE)
        board = Board(made, traffic, jobs, metrics)
        faults = Faults(made, tell=_noted(board, began))
        beside = [asyncio.create_task(each) for each in (board.watch(), show(board), faults.supervise())]
        killing = asyncio.create_task(_kill(faults, traffic, jobs))
        try:
            await traffic.create(range(jobs))
            await traffic.finish()
            await killing
            await all_serve(made)
            seconds = time.monotonic() - began
            usage = await client.usage()
            await asyncio.sleep(1.0)  # the board has looked once more
        finally:
            for task in [killing, *beside]:
                task.cancel()
            await asyncio.gather(killing, *beside, return_exceptions=True)
    states = traffic.states
    return {
        "submitted": traffic.created,
        "succeeded": states["succeeded"],
        "failed": states.total() - states["succeeded"],
        "lost": jobs - states.total(),
        "results_read": sum(bool(each.sha256) for each in traffic.outcomes.values()),
        "attempts_beyond_the_first": traffic.repeated,
        "credits_charged": usage.credits_used,
        "credits_due": states["succeeded"] * _PRICE,
        "servers_killed": faults.replicas_killed,
        "nats_nodes_killed": faults.nodes_killed,
        "jobs_by_server": board.ended,
        "events": [f"{when:.1f} s: {what}" for when, what in faults.moments],
        "errors": [each.error for each in traffic.outcomes.values() if each.error],
        "seconds": round(seconds, 1),
    }


def _noted(board: Board, began: float) -> Callable[[str], None]:
    return lambda what: board.events.append(f"{time.monotonic() - began:6.1f} s  {what}")


async def _kill(faults: Faults, traffic: Traffic, jobs: int) -> None:
    await traffic.until_ended(jobs // 4)
    await faults.kill_replica()
    await traffic.until_ended(jobs // 2)
    await faults.kill_leader()


def _stop(*_: int | FrameType | None) -> None:
    """As Ctrl-C does it: everything that was started is ended on the way out."""
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("bench-results/cluster-demo.json"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        found = _played(options.jobs)
    except KeyboardInterrupt:
        print("\ncluster-demo: stopped", file=sys.stderr)
        return 130
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    for name in (
        "submitted", "succeeded", "failed", "lost", "attempts_beyond_the_first", "credits_charged", "seconds",
    ):  # fmt: skip
        print(f"{name.replace('_', ' '):<26}{found[name]:>8g}")
    print(f"written to {options.out}")
    right = (
        found["succeeded"] == found["results_read"] == options.jobs
        and not (found["lost"] or found["failed"])
        and found["credits_charged"] == found["credits_due"]
    )
    return 0 if right else 1


def _played(jobs: int) -> dict[str, object]:
    print(f"starting 3 nodes of NATS, an object store, {_REPLICAS} servers and Envoy …", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-cluster-demo-") as folder,
        unstarted(
            Path(folder),
            replicas=_REPLICAS,
            callers=[_CALLER],
            UPSCALED_PRICES=f"default={_PRICE:g}",
            UPSCALED_MAX_RUNNING_JOBS="2",
        ) as made,
    ):
        metrics = {}
        for replica, port in zip(made.replicas, free_ports(_REPLICAS), strict=True):
            metrics[replica.name] = f"127.0.0.1:{port}"
            replica.environ = {**replica.environ, "UPSCALED_METRICS_LISTEN": metrics[replica.name]}
        with serving(made, with_edge=True):
            print(f"callers reach it at {made.address}", flush=True)
            return asyncio.run(play(made, metrics, jobs))


if __name__ == "__main__":
    sys.exit(main())
