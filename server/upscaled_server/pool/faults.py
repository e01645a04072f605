"""Faults on purpose, for tests of what the service makes of them. Never in production.

`UPSCALED_FAULTS=crash:0.01,slow:0.1` lets every hundredth step end the worker, and every tenth take longer.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Mapping
from typing import Any, Literal, get_args

from upscaled_server.engine import counters
from upscaled_server.errors import OutOfMemory, ProcessingFailed

Fault = Literal["crash", "hang", "oom", "nan", "slow"]

_SLOW_SECONDS = 1.0


def parse_faults(text: str) -> dict[str, float]:
    """How probable each fault is with each step. Raises `ValueError` for anything else."""
    faults = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, share = part.partition(":")
        if name not in get_args(Fault):
            raise ValueError(f"{name!r} is none of {', '.join(get_args(Fault))}")
        faults[name] = float(share or "1")
        if not 0 <= faults[name] <= 1:
            raise ValueError(f"{part!r}: the probability is from 0 to 1")
    return faults


class FaultyEngine:
    """An engine whose steps go wrong."""

    def __init__(self, engine: Any, faults: Mapping[str, float]) -> None:
        self._engine = engine
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open_run(self, *arguments: Any) -> Any:
        return _FaultyRun(self._engine.open_run(*arguments), self._faults)

    def step_together(self, runs: list[Any]) -> Any:
        for run in runs:
            run.go_wrong()
        return self._engine.step_together([run.inner for run in runs])


class _FaultyRun:
    def __init__(self, run: Any, faults: Mapping[str, float]) -> None:
        self.inner = run
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, *leaving: Any) -> Any:
        self.go_wrong()
        return self.inner.step(*leaving)

    def go_wrong(self) -> None:
        for fault, share in self._faults.items():
            if random.random() < share:
                _commit(fault)


def _commit(fault: str) -> None:
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while fault == "hang":
        time.sleep(1)
    if fault == "slow":
        time.sleep(_SLOW_SECONDS)
    elif fault == "oom":
        counters.count("out_of_memory")
        raise OutOfMemory("out of memory, on purpose")
    elif fault == "nan":
        counters.count("nan_fallbacks")
        raise ProcessingFailed("the network gave numbers that are not finite, on purpose")
