"""Jobs and a server that is killed with -9 again and again: none is lost, none changes, none is paid twice.

python -m tests.chaos.jobs [--kills 100] [--queued 50] [--short] [--out bench-results/reliability/jobs.json]

Callers see to it that at least so many acknowledged jobs are queued whenever the server is killed.
"""

from __future__ import annotations

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
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
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
# After so many jobs the same images and options come again.
_KINDS = 17 * 11 * 4
_MOST_JOBS = 5000
# Of `Control`, before and after: they are calls, and paid like jobs.
_CONTROL_IMAGES = 8
_LOOK_SECONDS = 0.05


def request_of(number: int) -> jobs_pb2.CreateJobRequest:
    """Job `number` of every run: the same image and options."""
    return jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=picture(120 + number % 17, 90 + number % 11)),
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
        life.folder,
        UPSCALED_PRICES=f"default={_PRICE:g}",
        UPSCALED_MAX_QUEUED_JOBS_PER_CALLER="100000",
        # By itself the server gives up a job that was running at ten of its ends.
        UPSCALED_MAX_JOB_RESTARTS="100",
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


def create(life: Life, number: int) -> str:
    return life.call(
        lambda channel: jobs_pb2_grpc.JobsStub(channel).CreateJob(
            request_of(number), metadata=bearer(life.key), timeout=60
        )
    ).id


def queued(life: Life) -> int:
    request = jobs_pb2.ListJobsRequest(page_size=1000, states=[jobs_pb2.JOB_STATE_QUEUED])
    return len(
        life.call(
            lambda channel: jobs_pb2_grpc.JobsStub(channel).ListJobs(
                request, metadata=bearer(life.key), timeout=60
            )
        ).jobs
    )


def keep_queue_full(life: Life, least: int, done: threading.Event, ids: list[str], twice: list[int]) -> None:
    """New jobs until nothing is killed any more, twice as many in the queue as there must be. Every fifth is
    created again, as a caller does who did not hear the answer."""
    while not done.is_set() and len(ids) < _MOST_JOBS:
        for _ in range(max(0, 2 * least - queued(life))):
            number = len(ids)
            ids.append(create(life, number))
            if number % 5 == 0 and create(life, number) != ids[number]:
                twice.append(number)
        done.wait(_LOOK_SECONDS)


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
    """The bytes of every kind of job where nothing is killed."""
    with tempfile.TemporaryDirectory(prefix="upscaled-calm-") as name:
        life = Life(Path(name))
        with one_life(life):
            ids = [create(life, number) for number in range(min(count, _KINDS))]
            return [download(life, ended(life, job).result.outputs[0].id) for job in ids]


@dataclass
class Killer:
    """Processes one after the other, each killed at a random moment once enough jobs are queued; the last one
    stays until `over`."""

    life: Life
    kills: int
    least: int
    chance: random.Random
    longest_life: float
    killed: int = 0
    fewest_queued: int = 1 << 30
    ready: threading.Event = field(default_factory=threading.Event)
    all_killed: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    problems: list[str] = field(default_factory=list)

    def run(self) -> None:
        try:
            self._run()
        finally:
            self.ready.set()
            self.all_killed.set()

    def _run(self) -> None:
        control: Control | None = None
        while not self.over.is_set():
            with one_life(self.life) as keyed:
                if control is None:
                    control = Control(keyed.server, key=self.life.key)
                    self.ready.set()
                if self.killed < self.kills:
                    self._kill(keyed.server)
                else:
                    self.all_killed.set()
                    self.over.wait(_LIMIT_SECONDS)
                    self.problems = control.problems(keyed.server)

    def _kill(self, server: RunningServer) -> None:
        until = time.monotonic() + self.chance.uniform(0.0, self.longest_life)
        while time.monotonic() < until or (found := queued(self.life)) < self.least:
            time.sleep(_LOOK_SECONDS)
        self.fewest_queued = min(self.fewest_queued, found)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(60)
        self.killed += 1


def disturbed(killer: Killer) -> tuple[dict[str, Any], list[bytes]]:
    """What became of the jobs, and their files."""
    life, ids, twice = killer.life, list[str](), list[int]()
    thread = threading.Thread(target=killer.run)
    thread.start()
    try:
        killer.ready.wait(_LIMIT_SECONDS)
        keep_queue_full(life, killer.least, killer.all_killed, ids, twice)
        jobs = [ended(life, job) for job in ids]
        files = [download(life, job.result.outputs[0].id) if job.result.outputs else b"" for job in jobs]
        usage = life.call(
            lambda channel: account_pb2_grpc.AccountStub(channel).GetUsage(
                account_pb2.GetUsageRequest(), metadata=bearer(life.key), timeout=60
            )
        )
    finally:
        killer.all_killed.wait(_LIMIT_SECONDS)
        killer.over.set()
        thread.join()
    expected = {job.id for job in jobs}
    blobs = life.folder / "blobs"
    kept = [path.relative_to(blobs) for path in blobs.rglob("*") if path.is_file()]
    # One file each, in a folder of the output's.
    there = expected & {path.parts[1] for path in kept if path.parts[0] == "outputs"}
    paid = sum(model.requests for model in usage.models)
    return {
        "jobs": len(ids),
        "made_twice": len(twice) + len(ids) - len(set(ids)),
        "results": sum(job.state == jobs_pb2.JOB_STATE_SUCCEEDED for job in jobs),
        "states": dict(Counter(jobs_pb2.JobState.Name(job.state) for job in jobs)),
        "run_more_than_once": sum(job.attempts > 1 for job in jobs),
        "charged_for_jobs": usage.credits_used - _CONTROL_IMAGES * _PRICE,
        "paid_requests": paid - _CONTROL_IMAGES,
        "orphan_files": len(kept) - len(there),
        "missing_files": len(expected - there),
    }, files


def _wrong(found: dict[str, Any], same_bytes: int) -> list[str]:
    count = found["jobs"]
    expected = {
        "made_twice": 0,
        "results": count,
        "paid_requests": count,
        "orphan_files": 0,
        "missing_files": 0,
    }
    wrong = [
        f"{name.replace('_', ' ')}: {found[name]}, not {value}"
        for name, value in expected.items()
        if found[name] != value
    ]
    if abs(found["charged_for_jobs"] - count * _PRICE) > 1e-9:
        wrong.append(f"charged {found['charged_for_jobs']:g}, not {count * _PRICE:g}")
    if same_bytes != count:
        wrong.append(f"{count - same_bytes} results have other bytes than those of an undisturbed server")
    return wrong


def main() -> int:
    parser = arguments("jobs", __doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--queued", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--longest-life", type=float, default=1.0, help="seconds until a kill, at most")
    options = parser.parse_args()
    kills = 3 if options.short else options.kills
    record = Record(
        "jobs",
        "Server killed",
        f"kill -9 of the server with at least {options.queued} acknowledged jobs queued: each of them ends "
        "once, with the bytes of an undisturbed server, is paid once, and the same request gives the same "
        "job",
        options.short,
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upscaled-chaos-") as name:
        chance = random.Random(options.seed)
        killer = Killer(Life(Path(name)), kills, options.queued, chance, options.longest_life)
        found, files = disturbed(killer)
    calm = undisturbed(found["jobs"])
    same = sum(each == calm[number % _KINDS] for number, each in enumerate(files))
    record.tried = kills
    record.not_held = _wrong(found, same) + killer.problems
    record.held = 0 if record.not_held else killer.killed
    record.seconds = time.monotonic() - began
    record.figures = {
        "jobs_acknowledged": found["jobs"],
        "jobs_done_once": found["results"],
        "jobs_of_the_same_bytes": same,
        "jobs_run_more_than_once": found["run_more_than_once"],
        "fewest_queued_at_a_kill": killer.fewest_queued,
        "orphan_files": found["orphan_files"],
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
