"""An entrant's process, seen from the contest."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.benchmarks.contest.cases import REPO, Case
from tests.benchmarks.contest.entrants import seat


@dataclass
class Outcome:
    """What an entrant did in one case. `seconds` and `peak_bytes` are raw samples, the warm-up left out."""

    skipped: str = ""
    failed: str = ""
    warm_up_seconds: float | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    accuracy: dict[str, float | None] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class EntrantProcess:
    """Started at once, ended by leaving the context. After a failure every call does nothing.

    An answer that takes longer than `limit_seconds` is a failure too, and recorded as one.
    """

    def __init__(
        self,
        name: str,
        case: Case,
        image: Path,
        limit_bytes: int,
        log: IO[bytes],
        *,
        limit_seconds: float = 3600,
    ) -> None:
        self.name = name
        self._limit_seconds = limit_seconds
        self.outcome = Outcome()
        command = ("-m", "tests.benchmarks.contest.child", name, case.model, str(image), str(limit_bytes))
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=REPO,
            env=os.environ | dict(seat(name).environment),
        )
        self._answer()

    def __enter__(self) -> EntrantProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it is still in the contest."""
        return not (self.outcome.skipped or self.outcome.failed)

    def run(self, *, warm_up: bool = False) -> float:
        """One upscale; its seconds, 0 where it failed."""
        answer = self._ask("warm" if warm_up else "run")
        if not self.runs:
            return 0.0
        if warm_up:
            self.outcome.warm_up_seconds = answer["seconds"]
        else:
            self.outcome.seconds.append(answer["seconds"])
            self.outcome.peak_bytes.append(answer["peak_bytes"])
            self.outcome.notes = answer["notes"]
        return float(answer["seconds"])

    def save(self, path: Path) -> bool:
        """Write the last result as .npy."""
        return self.runs and bool(self._ask(f"save {path}").get("saved"))

    def _ask(self, command: str) -> dict[str, Any]:
        if not self.runs or self._process.stdin is None:
            return {}
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._line()
        if line is None:
            self._process.kill()
            self._process.wait()
            self.outcome.failed = f"time limit of {self._limit_seconds:.0f} s"
            return {}
        if not line:
            status = self._process.wait()
            # The kernel's way to say that memory is out; an aborted C++ program says bad_alloc that way.
            killed = status in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV)
            self.outcome.failed = (
                f"out of memory (ended by signal {-status})" if killed else f"ended with status {status}"
            )
            return {}
        answer: dict[str, Any] = json.loads(line)
        self.outcome.failed = answer.get("failed", "")
        self.outcome.skipped = answer.get("skipped", "")
        return answer

    def _line(self) -> bytes | None:
        """The next line; empty when the process has ended, None when the time is over.

        It says one line for each that it is asked, so none is left over in the reader.
        """
        stdout = self._process.stdout
        if stdout is None:
            return b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(self._limit_seconds):
                return None
        return stdout.readline()
