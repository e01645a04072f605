"""A data folder whose disk is full, again and again: what needs room is refused, everything else goes on.

python -m tests.chaos.full_disk [--times 20] [--short] [--out bench-results/reliability/full_disk.json]

The disk is a small tmpfs, which takes root to mount. Each time a random rest of it stays free, from nothing
to a few pages, so that writes fail at other places.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    options_pb2,
    upscaler_pb2,
    upscaler_pb2_grpc,
)

_DISK_BYTES = 48 << 20
_PIECE = bytes(1 << 20)
_MOST_LEFT_BYTES = 48 << 10  # below what the image of a job has
_IMAGE = (400, 300)  # some hundred kilobytes as a file of noise, and more as a result
_BACK_SECONDS = 10.0
_SLOWEST_SECONDS = 120.0


@dataclass
class Disk:
    """A file system of its own, and the file that fills it."""

    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self, left_bytes: int) -> None:
        """Takes all that is free, but for some bytes."""
        with self.ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(_PIECE)
        with self.ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:  # what is left is less than a piece
                file.write(_PIECE[:4096])
        if left_bytes:
            os.truncate(self.ballast, max(0, self.ballast.stat().st_size - left_bytes))

    def empty(self) -> None:
        self.ballast.unlink()


@contextmanager
def small_disk() -> Iterator[Disk]:
    """Raises `PermissionError` where nothing can be mounted."""
    with tempfile.TemporaryDirectory(prefix="upscaled-disk-") as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=700", "tmpfs", name]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(done.stderr.strip())
        try:
            yield Disk(Path(name))
        finally:
            subprocess.run(["umount", name], check=True)


class Caller:
    """What a caller does, each with the status that it ended with."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._jobs = jobs_pb2_grpc.JobsStub(channel)
        self._blobs = blobs_pb2_grpc.BlobsStub(channel)
        self._upscaler = upscaler_pb2_grpc.UpscalerStub(channel)

    def create(self, name: str) -> jobs_pb2.Job:
        request = jobs_pb2.CreateJobRequest(
            source=options_pb2.Source(image=picture(*_IMAGE)),
            options=options_pb2.UpscaleOptions(model=FAST),
            request_id=name,
        )
        return self._jobs.CreateJob(request, timeout=_SLOWEST_SECONDS)

    def job(self, job_id: str) -> jobs_pb2.Job:
        return self._jobs.GetJob(jobs_pb2.GetJobRequest(job_id=job_id), timeout=_SLOWEST_SECONDS)

    def ended(self, job_id: str) -> jobs_pb2.Job:
        request = jobs_pb2.WatchJobRequest(job_id=job_id)
        return list(self._jobs.WatchJob(request, timeout=_SLOWEST_SECONDS))[-1].job

    def delete(self, job_id: str) -> None:
        self._jobs.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id), timeout=_SLOWEST_SECONDS)

    def download(self, output_id: str) -> str:
        request = blobs_pb2.DownloadOutputRequest(output_id=output_id)
        found = hashlib.sha256()
        for body in self._blobs.DownloadOutput(request, timeout=_SLOWEST_SECONDS):
            found.update(body.data)
        return found.hexdigest()

    def upscale(self) -> str:
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=picture(64, 48)), options=options_pb2.UpscaleOptions(model=FAST)
        )
        answer = self._upscaler.Upscale(request, timeout=_SLOWEST_SECONDS)
        return hashlib.sha256(answer.outputs[0].data).hexdigest()


def code_of(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@dataclass
class Round:
    """One time of a full disk."""

    caller: Caller
    disk: Disk
    kept: jobs_pb2.Job
    kept_sha256: str
    upscaled_sha256: str
    back_seconds: float = 0.0
    waiting_seconds: float = 0.0

    def play(self, number: int, left_bytes: int) -> list[str]:
        """What did not hold. A job is running when the disk becomes full: it has no room for its result."""
        running = self.caller.create(f"running-{number}")
        self.disk.fill(left_bytes)
        try:
            wrong = self._while_full(number, running.id)
        finally:
            self.disk.empty()
            freed = time.monotonic()
        return wrong + self._afterwards(number, running.id, freed)

    def _while_full(self, number: int, running: str) -> list[str]:
        caller, wrong = self.caller, []
        if (code := code_of(lambda: caller.create(f"full-{number}"))) != "RESOURCE_EXHAUSTED":
            wrong.append(f"CreateJob ended with {code}")
        if caller.upscale() != self.upscaled_sha256:
            wrong.append("Upscale gave other bytes")
        if caller.job(self.kept.id) != self.kept:
            wrong.append("GetJob gave another job")
        if caller.download(self.kept.result.outputs[0].id) != self.kept_sha256:
            wrong.append("an output has other bytes")
        now = caller.job(running)
        if now.state == jobs_pb2.JOB_STATE_SUCCEEDED:
            # It was done before the disk was full; then its result is whole.
            if caller.download(now.result.outputs[0].id) != now.result.outputs[0].sha256.hex():
                wrong.append("a result is there in part")
        elif (code := code_of(lambda: caller.download(running))) != "NOT_FOUND":
            wrong.append(f"the output of a job that has not ended: {code}")
        return wrong

    def _afterwards(self, number: int, running: str, freed: float) -> list[str]:
        wrong, until = [], freed + _SLOWEST_SECONDS
        while (code := code_of(lambda: self.caller.create(f"full-{number}"))) != "OK":
            if time.monotonic() > until:
                return [f"CreateJob still ends with {code}"]
            time.sleep(0.1)
        self.back_seconds = time.monotonic() - freed
        if self.back_seconds > _BACK_SECONDS:
            wrong.append(f"CreateJob works again after {self.back_seconds:.1f} s only")
        made = self.caller.create(f"full-{number}").id
        for job in (running, made):
            ended = self.caller.ended(job)
            if ended.state != jobs_pb2.JOB_STATE_SUCCEEDED:
                wrong.append(f"a job ended as {jobs_pb2.JobState.Name(ended.state)}: {ended.error.message}")
            elif self.caller.download(ended.result.outputs[0].id) != self.kept_sha256:
                wrong.append("a result has other bytes than that of the same image before")
            self.caller.delete(job)
        self.waiting_seconds = time.monotonic() - freed
        return wrong


def _run(disk: Disk, server: RunningServer, times: int, chance: random.Random, record: Record) -> None:
    with grpc.insecure_channel(server.address) as channel:
        caller = Caller(channel)
        kept = caller.ended(caller.create("kept").id)
        control = Control(server)
        sha256, upscaled = caller.download(kept.result.outputs[0].id), caller.upscale()
        back, waiting = list[float](), list[float]()
        for number in range(times):
            left = chance.choice([0, chance.randrange(_MOST_LEFT_BYTES)])
            one = Round(caller, disk, kept, sha256, upscaled)
            wrong = one.play(number, left)
            record.tried += 1
            record.held += not wrong
            record.not_held += [f"{left} bytes left: {each}" for each in wrong]
            back.append(one.back_seconds)
            waiting.append(one.waiting_seconds)
    record.not_held += control.problems(server)
    left_over = [path.name for path in disk.folder.rglob("*#*")]
    if left_over:
        record.not_held.append(f"files left over: {left_over}")
    record.figures = {
        "longest_until_jobs_are_taken_seconds": max(back),
        "longest_until_waiting_jobs_are_done_seconds": max(waiting),
    }


def main() -> int:
    parser = arguments("full_disk", __doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    record = Record(
        "full_disk",
        "Disk full",
        "a tmpfs of 48 MiB as the data folder is filled, to the last byte or to some pages, while a job "
        "runs: CreateJob must end with RESOURCE_EXHAUSTED, Upscale, GetJob and downloads must work, nothing "
        "may be visible in part, and CreateJob must work within 10 s of room",
        options.short,
    )
    began = time.monotonic()
    try:
        with (
            small_disk() as disk,
            running_server(UPSCALED_DATA_DIR=str(disk.folder), UPSCALED_MIN_FREE_BYTES="0") as server,
        ):
            times = 2 if options.short else options.times
            _run(disk, server, times, random.Random(options.seed), record)
    except PermissionError as error:
        print(f"full_disk: skipped, a file system cannot be mounted: {error}")
        return 0
    record.seconds = time.monotonic() - began
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
