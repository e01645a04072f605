"""The requests of the mixed soak, several at once, and what comes of them."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc

from tests.benchmarks.load_chaos import kill_worker
from tests.e2e.conftest import RunningServer
from tests.soak.caller import Caller, Known, calling
from tests.soak.kinds import Kind, chosen
from tests.soak.sampling import Latencies

AT_ONCE = 8
_REQUESTS_OF_A_CONNECTION = 25
_SHOWN = 20
_OUR_FAULT = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@dataclass
class Outcomes:
    """What came of the requests so far. `told`: ids of the jobs that the receiver of callbacks has to hear
    of. `faults`: answers that were INTERNAL or UNKNOWN."""

    ended: int = 0
    held: int = 0
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    faults: int = 0
    kills: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    known: Known = field(default_factory=Known)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: Kind, outcome: str, seconds: float) -> None:
        if kind.timed:
            self.latencies.add(seconds)
        with self.lock:
            self.held += 1
            self._count(kind, outcome)

    def note_wrong(self, kind: Kind, number: int, error: Exception) -> None:
        code = error.code() if isinstance(error, grpc.RpcError) else getattr(error, "code", None)
        outcome = code.name if code is not None else type(error).__name__
        with self.lock:
            self._count(kind, f"NOT AS EXPECTED: {outcome}")
            self.faults += code in _OUR_FAULT
            if len(self.wrong) < _SHOWN:
                self.wrong.append(f"request {number}, {kind.name}: {outcome}, {error}")

    def _count(self, kind: Kind, outcome: str) -> None:
        self.ended += 1
        self.by_kind.setdefault(kind.name, Counter())[outcome] += 1


class Load:
    """Calls one server."""

    def __init__(self, server: RunningServer, key: str, callbacks: str, seed: int) -> None:
        self._server, self._key, self._callbacks, self._seed = server, key, callbacks, seed
        self.outcomes = Outcomes()

    def run(self, numbers: range, kills: int) -> None:
        """These requests, eight at once, with as many kills of the worker spread over them."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            waiting.put(number)
        over = threading.Event()
        lanes = [threading.Thread(target=self._lane, args=(waiting,)) for _ in range(AT_ONCE)]
        killer = threading.Thread(target=self._kill, args=(numbers, kills, over))
        for thread in (*lanes, killer):
            thread.start()
        for thread in lanes:
            thread.join()
        over.set()
        killer.join()

    def _lane(self, waiting: queue.SimpleQueue[int]) -> None:
        while not waiting.empty():
            known = self.outcomes.known
            with calling(self._server.address, self._key, self._callbacks, known) as caller:
                for _ in range(_REQUESTS_OF_A_CONNECTION):
                    try:
                        self._request(caller, waiting.get_nowait())
                    except queue.Empty:
                        break
            with self.outcomes.lock:
                self.outcomes.told += caller.told

    def _request(self, caller: Caller, number: int) -> None:
        kind, chance = chosen(number, self._seed)
        began = time.monotonic()
        try:
            outcome = kind.ask(caller, chance)
        except Exception as error:
            self.outcomes.note_wrong(kind, number, error)
        else:
            self.outcomes.note(kind, outcome, time.monotonic() - began)

    def _kill(self, numbers: range, kills: int, over: threading.Event) -> None:
        due = [numbers.start + len(numbers) * (each + 1) // (kills + 1) for each in range(kills)]
        while due and not over.wait(0.1):
            if self.outcomes.ended >= due[0]:
                self.outcomes.kills += kill_worker(self._server.process.pid)
                del due[0]
