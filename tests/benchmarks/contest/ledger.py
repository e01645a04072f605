"""Processor seconds of a server, by process, and of this one: where the time around a network goes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Ledger:
    """`seconds` between the two moments at which the context is entered and left, by who spent them: `server`
    (calls, encoding), `decoding`, `worker` (the network) and `client` (this process)."""

    server_pid: int
    seconds: dict[str, float] = field(default_factory=dict)
    _before: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Ledger:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        now = self._now()
        self.seconds = {who: round(now[who] - self._before[who], 3) for who in now}

    def _now(self) -> dict[str, float]:
        found = {"server": _spent(self.server_pid), "decoding": 0.0, "worker": 0.0, "client": _own()}
        for pid in _children(self.server_pid):
            what = Path(f"/proc/{pid}/cmdline").read_bytes()
            # Decoders are children of their parent, which has waited for those that ended.
            who = "decoding" if b".codec." in what else "worker"
            found[who] += _spent(pid, ended_children=True)
        return found


def _own() -> float:
    times = os.times()
    return times.user + times.system


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _spent(pid: int, *, ended_children: bool = False) -> float:
    """User and system time; with that of its children which have ended and were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) * _TICK
