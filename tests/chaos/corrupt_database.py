"""A server started on a damaged database, again and again: it says so, or serves what was there.

python -m tests.chaos.corrupt_database [--mutations 50] [--short]
    [--out bench-results/reliability/corrupt_database.json]

The data folder is one that a server left when it was killed with jobs done, running and queued, a part of
them in the database's log alone. Every mutation begins with a copy of it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST, picture
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled.v1 import blobs_pb2, blobs_pb2_grpc, jobs_pb2, jobs_pb2_grpc, options_pb2

# Few enough that the log is not begun anew, which would leave old pages behind the valid ones.
_DONE, _NEW = 30, 10
_PAGE = 4096
_WAIT_SECONDS = 120.0
_NAMED = re.compile(r"damaged|cannot be used|database of another program|newer version")

Mutation = Callable[[Path, random.Random], None]


def make_folder(folder: Path) -> dict[str, str]:
    """Labels of acknowledged jobs by their ids, in a folder whose server was killed."""
    made = dict[str, str]()
    with (
        running_server(UPSCALED_DATA_DIR=str(folder)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = jobs_pb2_grpc.JobsStub(channel)
        for number in range(_DONE):
            made[_create(stub, number)] = f"n-{number}"
        for job in made:
            list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job), timeout=_WAIT_SECONDS))
        with closing(sqlite3.connect(folder / "state.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(_DONE, _DONE + _NEW):
            made[_create(stub, number)] = f"n-{number}"
        server.stop(signal.SIGKILL)
    return made


def _create(stub: jobs_pb2_grpc.JobsStub, number: int) -> str:
    request = jobs_pb2.CreateJobRequest(
        source=options_pb2.Source(image=picture(40 + number, 32)),
        options=options_pb2.UpscaleOptions(model=FAST, labels={"number": f"n-{number}"}),
        request_id=f"request-{number}",
    )
    return stub.CreateJob(request, timeout=30).id


def _cut(name: str, *, at_page: bool = False) -> Mutation:
    def mutate(folder: Path, chance: random.Random) -> None:
        size = chance.randrange((folder / name).stat().st_size)
        os.truncate(folder / name, size - size % _PAGE if at_page else size)

    return mutate


def _flip(name: str, count: int) -> Mutation:
    def mutate(folder: Path, chance: random.Random) -> None:
        content = bytearray((folder / name).read_bytes())
        for _ in range(count):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (folder / name).write_bytes(content)

    return mutate


def _zero(name: str, length: int, *, anywhere: bool = False) -> Mutation:
    def mutate(folder: Path, chance: random.Random) -> None:
        with (folder / name).open("r+b") as file:
            if anywhere:
                file.seek(_PAGE * chance.randrange((folder / name).stat().st_size // _PAGE))
            file.write(bytes(length))

    return mutate


def _swap_pages(folder: Path, chance: random.Random) -> None:
    content = bytearray((folder / "state.db").read_bytes())
    one, other = (_PAGE * page for page in chance.sample(range(1, len(content) // _PAGE), 2))
    content[one : one + _PAGE], content[other : other + _PAGE] = (
        content[other : other + _PAGE],
        content[one : one + _PAGE],
    )
    (folder / "state.db").write_bytes(content)


def _noise(name: str) -> Mutation:
    def mutate(folder: Path, chance: random.Random) -> None:
        (folder / name).write_bytes(chance.randbytes((folder / name).stat().st_size))

    return mutate


def _lose(*names: str) -> Mutation:
    def mutate(folder: Path, _chance: random.Random) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return mutate


MUTATIONS: dict[str, tuple[int, Mutation]] = {
    "log lost": (2, _lose("state.db-wal", "state.db-shm")),
    "log lost, its index not": (1, _lose("state.db-wal")),
    "header of zeros": (1, _zero("state.db", 100)),
    "database cut": (5, _cut("state.db")),
    "database cut at a page": (4, _cut("state.db", at_page=True)),
    "a bit of the database": (10, _flip("state.db", 1)),
    "30 bits of the database": (5, _flip("state.db", 30)),
    "first page of zeros": (1, _zero("state.db", _PAGE)),
    "a page of zeros": (4, _zero("state.db", _PAGE, anywhere=True)),
    "two pages changed places": (3, _swap_pages),
    "database of noise": (1, _noise("state.db")),
    "database lost": (1, _lose("state.db", "state.db-wal", "state.db-shm")),
    "database lost, its log not": (1, _lose("state.db")),
    "log cut": (3, _cut("state.db-wal")),
    "a bit of the log": (3, _flip("state.db-wal", 1)),
    "header of the log of zeros": (1, _zero("state.db-wal", 32)),
    "log of noise": (1, _noise("state.db-wal")),
    "index of the log of noise": (1, _noise("state.db-shm")),
    "mark lost": (1, _lose("state.db-mark")),
    "a bit of the mark": (1, _flip("state.db-mark", 1)),
}


class Expected:
    """What the jobs of the folder become where nothing is damaged."""

    def __init__(self, folder: Path, labels: dict[str, str]) -> None:
        self.labels = labels
        with (
            running_server(UPSCALED_DATA_DIR=str(folder)) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            self.files = {job: self._file(channel, job) for job in labels}

    def look(self, server: RunningServer) -> tuple[Counter[str], list[str]]:
        """How many jobs are as they were, and how many are told of as damaged; what is neither."""
        counts, wrong = Counter[str](), list[str]()
        with grpc.insecure_channel(server.address) as channel:
            stub = jobs_pb2_grpc.JobsStub(channel)
            is_named = False
            try:
                listed = stub.ListJobs(jobs_pb2.ListJobsRequest(page_size=1000), timeout=60).jobs
                if missing := self.labels.keys() - {job.id for job in listed}:
                    wrong.append(f"the list lacks {len(missing)} jobs without a word")
                wrong += [
                    f"the list has {job.id}, which is of nobody"
                    for job in listed
                    if job.id not in self.labels
                ]
            except grpc.RpcError as error:
                is_named = bool(_NAMED.search(error.details() or ""))
                if not is_named:
                    wrong.append(f"the list ended with {error.code().name}: {error.details()}")
            for job in self.labels:
                outcome = self._outcome(channel, job)
                if outcome == "NOT_FOUND" and is_named:
                    outcome = "damaged"
                counts[outcome] += 1
                if outcome not in ("right", "damaged"):
                    wrong.append(f"job {job}: {outcome}")
        return counts, wrong

    def _outcome(self, channel: grpc.Channel, job: str) -> str:
        try:
            return "right" if self._file(channel, job) == self.files[job] else "another file"
        except LookupError as error:
            return str(error)
        except grpc.RpcError as error:
            if _NAMED.search(error.details() or ""):
                return "damaged"
            return error.code().name

    def _file(self, channel: grpc.Channel, job_id: str) -> str:
        """Raises `LookupError` for a job that is another one, or has not become what it must."""
        watch = jobs_pb2.WatchJobRequest(job_id=job_id)
        job = list(jobs_pb2_grpc.JobsStub(channel).WatchJob(watch, timeout=_WAIT_SECONDS))[-1].job
        if (job.id, job.labels["number"]) != (job_id, self.labels[job_id]):
            raise LookupError("another job")
        if job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
            text = job.error.message
            raise LookupError("damaged" if _NAMED.search(text) else f"it failed: {text}")
        request = blobs_pb2.DownloadOutputRequest(output_id=job.result.outputs[0].id)
        found = hashlib.sha256()
        for body in blobs_pb2_grpc.BlobsStub(channel).DownloadOutput(request, timeout=60):
            found.update(body.data)
        return found.hexdigest()


def _try(folder: Path, expected: Expected) -> tuple[str, list[str]]:
    """How a server on this folder fares, and what is wrong with that."""
    log = folder.with_suffix(".log")
    try:
        with running_server(log, UPSCALED_DATA_DIR=str(folder)) as server:
            counts, wrong = expected.look(server)
            return ("all there" if counts["right"] == len(expected.labels) else "named in part"), wrong
    except RuntimeError:
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        if said and _NAMED.search(said[0]) and "UPSCALED_DATA_DIR" in said[0]:
            return "refused by name", []
        return "refused", [f"the start ended with {said}"]


def main() -> int:
    parser = arguments("corrupt_database", __doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    wanted = [name for name, (times, _) in MUTATIONS.items() for _ in range(times)]
    if options.short:
        wanted = list(MUTATIONS)[:6]
    record = Record(
        "corrupt_database",
        "Corrupt database",
        "a server is started on the data folder of a killed one after its database, log or mark was cut, "
        "changed, zeroed, shuffled or lost: it must refuse to start by name, or give every acknowledged job "
        "as it was or an error that names the damage",
        options.short,
    )
    began, outcomes = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="upscaled-corrupt-") as name:
        whole = Path(name) / "whole"
        labels = make_folder(whole)
        shutil.copytree(whole, Path(name) / "undamaged", ignore=shutil.ignore_patterns("admin.sock"))
        expected = Expected(Path(name) / "undamaged", labels)
        for number, kind in enumerate(
            itertools.islice(itertools.cycle(wanted), min(options.mutations, len(wanted)))
        ):
            folder = Path(name) / f"damaged-{number}"
            shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("admin.sock"))
            MUTATIONS[kind][1](folder, chance)
            outcome, wrong = _try(folder, expected)
            outcomes[outcome] += 1
            print(f"  {kind}: {outcome}", flush=True)
            record.tried += 1
            record.held += not wrong
            record.not_held += [f"{kind}: {each}" for each in wrong[:3]]
            shutil.rmtree(folder)
        with running_server(UPSCALED_DATA_DIR=str(whole)) as server:
            _, wrong = expected.look(server)
            record.not_held += wrong + Control(server).problems(server)
    record.seconds = time.monotonic() - began
    record.figures = {
        "jobs": len(labels),
        **{f"outcome {outcome}": count for outcome, count in outcomes.items()},
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
