"""Jobs and a server that is killed with -9 again and again: none is lost, none changes, none is paid twice.

python -m tests.chaos.jobs [--jobs 300] [--kills 20] [--short] [--out bench-results/chaos_jobs.json]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tests.e2e.conftest import RunningServer
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from upscaled.v1 import (
    account_pb2,
    account_pb2_grpc,
    blobs_pb2,
    blobs_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    options_pb2,
)

_T = TypeVar("_T")

CALLER = "chaos"
_PRICE = 1.0
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
_LIMIT_SECONDS = 900.0


def request_of(number: int) -> jobs_pb2.CreateJobRequest:
    """Job `number` of every run: the same image and options."""
    return jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=picture(24 + number % 17, 16 + number % 11)),
        options=options_pb2.UpscaleOptions(
            model=FAST,
            scale=1.5 + number % 4,
            labels={"number": str(number)},
            file_name=f"job-{number}",
        ),
        request_id=f"request-{number}",
    )


@dataclass
class Life:
    """The server that runs now, over all its processes."""

    folder: Path
    key: str = ""
    server: RunningServer | None = None
    over: bool = False
    lives: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def call(self, what: Callable[[grpc.Channel], _T]) -> _T:
        """`what`, again with the next process wherever one ends in the middle."""
        give_up = time.monotonic() + _LIMIT_SECONDS
        while True:
            with self.changed:
                while self.server is None:
                    self.changed.wait(1.0)
                server = self.server
            try:
                with grpc.insecure_channel(server.address) as channel:
                    return what(channel)
            except grpc.RpcError as error:
                if error.code() not in _AGAIN or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)


@contextmanager
def one_life(life: Life) -> Iterator[KeyedServer]:
    with keyed_server(
        life.folder, UPSCALED_PRICES=f"default={_PRICE:g}", UPSCALED_MAX_QUEUED_JOBS_PER_CALLER="100000"
    ) as keyed:
        if not life.key:
            life.key = keyed.make_key(CALLER, monthly_credits=1e6)
        with life.changed:
            life.server, life.lives = keyed.server, life.lives + 1
            life.changed.notify_all()
        try:
            yield keyed
        finally:
            with life.changed:
                life.server = None


def create_all(life: Life, count: int, ids: dict[int, str], doubled: list[int]) -> None:
    """Every job once, and some of them again, as a caller does who did not hear the answer."""
    for number in range(count):
        job = life.call(
            lambda channel, n=number: jobs_pb2_grpc.JobsStub(channel).CreateJob(
                request_of(n), metadata=bearer(life.key), timeout=60
            )
        )
        ids[number] = job.id
        if number % 5 == 0:
            again = life.call(
                lambda channel, n=number: jobs_pb2_grpc.JobsStub(channel).CreateJob(
                    request_of(n), metadata=bearer(life.key), timeout=60
                )
            )
            if again.id != job.id:
                doubled.append(number)


def ended(life: Life, job_id: str) -> jobs_pb2.Job:
    request = jobs_pb2.WatchJobRequest(job_id=job_id)

    def watch(channel: grpc.Channel) -> jobs_pb2.Job:
        events = jobs_pb2_grpc.JobsStub(channel).WatchJob(request, metadata=bearer(life.key), timeout=300)
        return list(events)[-1].job

    return life.call(watch)


def download(life: Life, output_id: str) -> bytes:
    request = blobs_pb2.DownloadOutputRequest(output_id=output_id)

    def fetch(channel: grpc.Channel) -> bytes:
        bodies = blobs_pb2_grpc.BlobsStub(channel).DownloadOutput(
            request, metadata=bearer(life.key), timeout=60
        )
        return b"".join(body.data for body in bodies)

    return life.call(fetch)


def undisturbed(count: int) -> list[bytes]:
    """The bytes of every job where nothing is killed."""
    with tempfile.TemporaryDirectory(prefix="upscaled-calm-") as name:
        life, ids = Life(Path(name)), dict[int, str]()
        with one_life(life):
            create_all(life, count, ids, [])
            jobs = [ended(life, ids[number]) for number in range(count)]
            return [download(life, job.result.outputs[0].id) for job in jobs]


def keep_killing(life: Life, kills: int, chance: random.Random, longest: float, done: threading.Event) -> int:
    """Processes one after the other, each killed at a random moment; the last one stays until `done`."""
    killed = 0
    while not done.is_set():
        with one_life(life) as keyed:
            if killed < kills:
                done.wait(chance.uniform(0.0, longest))
                if not done.is_set():
                    keyed.server.process.send_signal(signal.SIGKILL)
                    keyed.server.process.wait(60)
                    killed += 1
            else:
                done.wait(_LIMIT_SECONDS)
    return killed


def disturbed(count: int, kills: int, seed: int, longest: float) -> tuple[dict[str, Any], list[bytes]]:
    with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name:
        folder = Path(name)
        life, ids, doubled, done = Life(folder), dict[int, str](), list[int](), threading.Event()
        killed: list[int] = []
        killer = threading.Thread(
            target=lambda: killed.append(keep_killing(life, kills, random.Random(seed), longest, done))
        )
        began = time.monotonic()
        killer.start()
        try:
            create_all(life, count, ids, doubled)
            jobs = [ended(life, ids[number]) for number in range(count)]
            while life.lives <= kills:
                time.sleep(0.1)
            files = [download(life, job.result.outputs[0].id) if job.result.outputs else b"" for job in jobs]
            usage = life.call(
                lambda channel: account_pb2_grpc.AccountStub(channel).GetUsage(
                    account_pb2.GetUsageRequest(), metadata=bearer(life.key), timeout=60
                )
            )
        finally:
            done.set()
            killer.join()
        expected = {job.id for job in jobs}
        blobs = folder / "blobs"
        files = [path.relative_to(blobs) for path in blobs.rglob("*") if path.is_file()]
        # One file each, in a folder of the output's.
        kept = expected & {path.parts[1] for path in files if path.parts[0] == "outputs"}
        counts: dict[str, Any] = {
            "jobs": count,
            "kills": sum(killed),
            "acknowledged": len(ids),
            "made_twice": len(doubled) + len(ids) - len(set(ids.values())),
            "results": sum(job.state == jobs_pb2.JOB_STATE_SUCCEEDED for job in jobs),
            "states": dict(Counter(jobs_pb2.JobState.Name(job.state) for job in jobs)),
            "attempts": sum(job.attempts for job in jobs),
            "run_more_than_once": sum(job.attempts > 1 for job in jobs),
            "charged": usage.credits_used,
            "charged_once": abs(usage.credits_used - count * _PRICE) < 1e-9
            and sum(model.requests for model in usage.models) == count,
            "orphan_files": len(files) - len(kept),
            "missing_files": len(expected - kept),
            "seconds": time.monotonic() - began,
        }
        return counts, files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--short", action="store_true", help="60 jobs and 5 kills")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--longest-life", type=float, default=2.0, help="seconds until a kill, at most")
    parser.add_argument("--out", type=Path, default=Path("bench-results/chaos_jobs.json"))
    options = parser.parse_args()
    count, kills = (60, 5) if options.short else (options.jobs, options.kills)
    calm = undisturbed(count)
    found, files = disturbed(count, kills, options.seed, options.longest_life)
    found["same_bytes"] = sum(mine == theirs for mine, theirs in zip(files, calm, strict=True))
    found["seed"] = options.seed
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{found['jobs']} jobs, server killed {found['kills']} times: {found['acknowledged']} acknowledged, "
        f"{found['results']} results, {found['same_bytes']} of the same bytes, {found['made_twice']} made "
        f"twice, charged {found['charged']:g} ({'each once' if found['charged_once'] else 'WRONG'}), "
        f"{found['orphan_files']} orphan files, {found['missing_files']} missing, "
        f"{found['run_more_than_once']} run more than once, {found['seconds']:.0f} s"
    )
    right = (
        found["kills"] == kills
        and found["acknowledged"] == found["results"] == found["same_bytes"] == count
        and found["charged_once"]
        and not (found["made_twice"] or found["orphan_files"] or found["missing_files"])
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
