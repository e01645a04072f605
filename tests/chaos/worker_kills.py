"""The worker is killed with -9 in the middle of batches, again and again: callers notice nothing.

python -m tests.chaos.worker_kills [--kills 100] [--short] [--out bench-results/reliability/worker_kills.json]

Five callers go on upscaling without second attempts: three of them images of one shape, which share batches,
and one an image of several bands. A kill comes at a random moment of their work.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import FAST
from tests.reliability.control import Control
from tests.reliability.record import Record, arguments, end
from upscaled import Client, UpscaledError

_SIZES = [(64, 64), (64, 64), (64, 64), (96, 72), (160, 240)]
_LONGEST_LIFE_SECONDS = 1.0
_RESPAWN_SECONDS = 10.0
_LOST_SECONDS = 60.0
_ANSWER_SECONDS = 300.0


@dataclass
class Traffic:
    """`answered` counts the images of each caller."""

    server: RunningServer
    expected: list[str] = field(default_factory=list)
    answered: list[int] = field(default_factory=lambda: [0] * len(_SIZES))
    wrong: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    stop: threading.Event = field(default_factory=threading.Event)

    def learn(self) -> None:
        """What the images become where nothing is killed."""
        with Client(self.server.address, timeout=_ANSWER_SECONDS, retries=0) as client:
            self.expected = [_upscaled(client, number) for number in range(len(_SIZES))]

    def call(self, number: int) -> None:
        with Client(self.server.address, timeout=_ANSWER_SECONDS, retries=0) as client:
            while not self.stop.is_set():
                try:
                    same = _upscaled(client, number) == self.expected[number]
                    problem = "" if same else f"image {number} has other bytes"
                except UpscaledError as error:
                    problem = f"image {number}: {error}"
                with self.changed:
                    self.answered[number] += 1
                    if problem:
                        self.wrong.append(problem)
                    self.changed.notify_all()

    def wait_for_everybody(self, seconds: float) -> bool:
        """Whether every caller gets an answer in time."""
        with self.changed:
            before = list(self.answered)
            return self.changed.wait_for(
                lambda: all(now > then for now, then in zip(self.answered, before, strict=True)), seconds
            )


def worker_of(server: RunningServer, *, other_than: int = 0) -> int:
    """The pid of the worker, waiting for it while it starts. Raises `TimeoutError`."""
    pid, until = server.process.pid, time.monotonic() + _LOST_SECONDS
    while time.monotonic() < until:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"upscaled_server.pool.worker" in line and int(child) != other_than:
                return int(child)
        time.sleep(0.01)
    raise TimeoutError("no worker")


def _upscaled(client: Client, number: int) -> str:
    return hashlib.sha256(client.upscale(_picture(number), model=FAST).data).hexdigest()


def _picture(number: int) -> bytes:
    width, height = _SIZES[number]
    chance = np.random.default_rng(number)
    coarse = Image.fromarray(chance.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
    out = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def _kill(server: RunningServer, traffic: Traffic, log: Path, chance: random.Random) -> tuple[str, float]:
    """What went wrong with one kill, and the seconds until the next worker was up."""
    time.sleep(chance.uniform(0.0, _LONGEST_LIFE_SECONDS))
    wrong, victim, began = len(traffic.wrong), worker_of(server), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    following = f"(pid {worker_of(server, other_than=victim)}) is up"
    while following not in log.read_text(errors="replace"):
        if time.monotonic() - began > _LOST_SECONDS:
            return f"no worker was up {_LOST_SECONDS:.0f} s later", _LOST_SECONDS
        time.sleep(0.01)
    seconds = time.monotonic() - began
    if not traffic.wait_for_everybody(_ANSWER_SECONDS):
        return f"a caller had no answer {_ANSWER_SECONDS:.0f} s later", seconds
    if len(traffic.wrong) > wrong:
        return traffic.wrong[-1], seconds
    return ("" if seconds <= _RESPAWN_SECONDS else f"a worker was up after {seconds:.1f} s only"), seconds


def main() -> int:
    parser = arguments("worker_kills", __doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    kills, chance = (5 if options.short else options.kills), random.Random(options.seed)
    record = Record(
        "worker_kills",
        "Worker killed",
        "kill -9 of the worker while five callers, three of them with images of one shape, wait for answers "
        "without second attempts; every answer is compared with the bytes of an undisturbed server",
        options.short,
    )
    began, taken = time.monotonic(), list[float]()
    with tempfile.TemporaryDirectory() as folder, running_server(log := Path(folder) / "log") as server:
        control, traffic = Control(server), Traffic(server)
        traffic.learn()
        threads = [threading.Thread(target=traffic.call, args=(n,)) for n in range(len(_SIZES))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                problem, seconds = _kill(server, traffic, log, chance)
                record.tried += 1
                record.held += not problem
                taken.append(seconds)
                if problem:
                    record.not_held.append(problem)
        finally:
            traffic.stop.set()
            for thread in threads:
                thread.join()
        record.not_held += control.problems(server)
    record.seconds = time.monotonic() - began
    record.figures = {
        "images_answered": sum(traffic.answered),
        "images_wrong_or_refused": len(traffic.wrong),
        "median_until_a_worker_is_up_seconds": sorted(taken)[len(taken) // 2],
        "longest_until_a_worker_is_up_seconds": max(taken),
    }
    return end(record, options.out)


if __name__ == "__main__":
    sys.exit(main())
