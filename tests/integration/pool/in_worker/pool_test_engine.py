"""The real engine with a handle on it, for worker processes: files in a folder make it wait, fail or die.

`hold` in the folder: steps announce themselves as `held` and wait until it is gone. `say`: steps write its
text to stderr. `fail`: steps raise what it names. `die`: opening a run ends the process, and `die` with it.
`refuse`: no engine comes up. Each step appends the run's width to `steps`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from upscaled_server import errors
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.run import Bits, Planes, Run
from upscaled_server.engine.variant import Variant
from upscaled_server.pool.factory import build_engine
from upscaled_server.tiling.plan import RunPlan

_FOLDER = Path(os.environ["POOL_TEST_FOLDER"])


def build(config: dict[str, Any]) -> _Handled:
    if (_FOLDER / "refuse").exists():
        raise errors.FailedPrecondition("told not to start", told=True)
    if config["device"] == "cuda":
        raise errors.FailedPrecondition("this torch knows no CUDA")
    return _Handled(build_engine(config))


class _Handled:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open_run(self, model: Variant, plan: RunPlan, out_bits: Bits, planes: Planes) -> _HandledRun:
        if (_FOLDER / "die").exists():
            (_FOLDER / "die").unlink()
            os.abort()
        return _HandledRun(self._engine.open_run(model, plan, out_bits, planes))


class _HandledRun:
    def __init__(self, run: Run) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def step(self) -> Any:
        with (_FOLDER / "steps").open("a") as file:
            file.write(f"{self._run.plan.width}\n")
        while (_FOLDER / "hold").exists():
            (_FOLDER / "held").touch()
            time.sleep(0.005)
        if (_FOLDER / "say").exists():
            print((_FOLDER / "say").read_text(), file=sys.stderr, flush=True)
        if (_FOLDER / "fail").exists():
            kind = (_FOLDER / "fail").read_text()
            if kind == "RuntimeError":
                raise RuntimeError("an inner secret")
            raise getattr(errors, kind)("as told", device_bytes=5)
        return self._run.step()
