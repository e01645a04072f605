"""The real engine with a handle on it, for worker processes: files in a folder make it wait, fail or die.

`hold` in the folder: steps announce themselves as `held` and wait until it is gone, except those of the
images that a worker is warmed with. `say`: steps write its text to stderr. `fail`: steps raise what it
names. `crash`: steps of images of this width abort. `die`: opening a run ends the process, and `die` with
it. `refuse`: no engine comes up. `unloadable`: the model that it names cannot be loaded. `together`: steps
of images of equal size may be taken together. `full`: rows that come find no memory. `low`: nor do bands of
more rows than it says. `anew`: so many of the next steps lose what their run holds. `precision`: what runs
and models say that they compute in. `lane`: networks are a card's, on the processor, and with `overflow`
bright pixels overflow all but fp32, in bands. `uncollected`: no garbage is collected. Each step appends the
run's width to `steps`, in one line those that were taken together; each run in bands their height to `bands`;
each model that is loaded or unloaded its name to `models`; each portion of rows that has to be copied to be
sent their number to `copied`.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from upscaled_server import errors
from upscaled_server.engine import counters
from upscaled_server.engine.backends.base import Empty
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.run import Bits, Planes, Run
from upscaled_server.engine.variant import Variant
from upscaled_server.pool.factory import build_engine
from upscaled_server.pool.pixels import Shelf
from upscaled_server.pool.worker import WARM_PIXELS
from upscaled_server.tiling.plan import RunPlan

_FOLDER = Path(os.environ["POOL_TEST_FOLDER"])


def build(config: dict[str, Any]) -> _Handled:
    if (_FOLDER / "refuse").exists():
        raise errors.FailedPrecondition("told not to start", told=True)
    if config["device"] == "cuda":
        raise errors.FailedPrecondition("this torch knows no CUDA")
    if (_FOLDER / "lane").exists():
        _compute_as_a_card_does()
    if (_FOLDER / "uncollected").exists():
        gc.disable()
    return _Handled(build_engine(config))


class _Handled:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open_run(
        self, model: Variant, plan: RunPlan, out_bits: Bits, planes: Planes, empty: Empty = np.empty
    ) -> _HandledRun:
        if (_FOLDER / "die").exists():
            (_FOLDER / "die").unlink()
            os.abort()
        if plan.way == "bands" and plan.width != WARM_PIXELS:
            _note("bands", str(plan.tile_height))
        shelf = getattr(empty, "__self__", None)
        run = self._engine.open_run(model, plan, out_bits, planes, empty)
        return _HandledRun(run, shelf if isinstance(shelf, Shelf) else None)

    def load(self, model: Variant) -> Any:
        _note("models", f"+{model.model}")
        if (_FOLDER / "unloadable").exists() and (_FOLDER / "unloadable").read_text() == model.model:
            raise errors.WeightsUnavailable("told not to have them")
        provenance = self._engine.load(model)
        return replace(provenance, precision=_told_precision() or provenance.precision)

    def unload(self, model: str) -> bool:
        _note("models", f"-{model}")
        return self._engine.unload(model)

    def step_together(self, runs: list[_HandledRun]) -> list[Any]:
        _note("steps", " ".join(str(run.plan.width) for run in runs))
        return [run.inner.step() for run in runs]


def _left(name: str) -> int:
    return int((_FOLDER / name).read_text()) if (_FOLDER / name).exists() else 0


def _told_precision() -> str:
    return (_FOLDER / "precision").read_text() if (_FOLDER / "precision").exists() else ""


def _compute_as_a_card_does() -> None:
    import torch

    from upscaled_server.engine import loading
    from upscaled_server.engine.backends.cuda.catalogue_network import on_lane
    from upscaled_server.engine.backends.cuda.lane import Lane
    from upscaled_server.engine.bands import cuda_bands

    def network(spec: Any, weights: Any, _: Any) -> Any:
        return on_lane(weights.state, spec.architecture, Lane(torch.device("cpu")), "fp16")

    def from_integers(integers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        image = converted(integers, dtype)
        if dtype != torch.float32 and (_FOLDER / "overflow").exists():
            image = torch.where(image > 0.8, torch.inf, image)
        return image

    converted = cuda_bands.from_integers
    loading._network = network  # type: ignore[assignment]
    cuda_bands.from_integers = from_integers


def _note(name: str, line: str) -> None:
    with (_FOLDER / name).open("a") as file:
        file.write(f"{line}\n")


class _HandledRun:
    def __init__(self, run: Run, shelf: Shelf | None) -> None:
        self.inner = run
        self._shelf = shelf

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def batch_key(self) -> str | None:
        plan = self.inner.plan
        return f"{plan.width}x{plan.height}" if (_FOLDER / "together").exists() else None

    @property
    def precision(self) -> str:
        return _told_precision() or self.inner.precision

    def feed(self, rows: Any) -> None:
        if (_FOLDER / "full").exists():
            raise MemoryError
        self.inner.feed(rows)

    def step(self, *leaving: Any) -> Any:
        _note("steps", str(self.inner.plan.width))
        while (_FOLDER / "hold").exists() and self.inner.plan.width != WARM_PIXELS:
            (_FOLDER / "held").touch()
            time.sleep(0.005)
        if (_FOLDER / "say").exists():
            print((_FOLDER / "say").read_text(), file=sys.stderr, flush=True)
        if (_FOLDER / "crash").exists() and (_FOLDER / "crash").read_text() == str(self.inner.plan.width):
            os.abort()
        plan = self.inner.plan
        low = _FOLDER / "low"
        if plan.way == "bands" and low.exists() and plan.tile_height > int(low.read_text()):
            counters.count("out_of_memory")
            raise errors.OutOfMemory("bands are too high, as told")
        if (left := _left("anew")) > 0:
            (_FOLDER / "anew").write_text(str(left - 1))
            raise errors.MustBeginAnew("all is lost, as told")
        if (_FOLDER / "fail").exists():
            kind = (_FOLDER / "fail").read_text()
            if kind == "RuntimeError":
                raise RuntimeError("an inner secret")
            raise getattr(errors, kind)("as told", device_bytes=5)
        rows = self.inner.step(*leaving)
        if self._shelf is not None and len(rows) and not self._shelf.holds(rows):
            _note("copied", str(len(rows)))
        return rows
