"""Our engine in its own process, with the plan that the server would choose: bare, each step called when the
one before has returned, as any program may use it; and as in a worker process of the server, whose steps
overlap (and whose allocator has settings of its own, which `ENTRANTS` gives it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.contest.driving import one_by_one, rows_of
from tests.benchmarks.contest.entrants import Entrant, Pixels
from tests.benchmarks.contest.weights import options
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.run import Run
from upscaled_server.engine.weights.store import WeightStore


def prepare(model: str, image: Pixels) -> Entrant:
    return _prepare(model, image, one_by_one)


def prepare_in_worker(model: str, image: Pixels) -> Entrant:
    return _prepare(model, image, rows_of)


def _prepare(model: str, image: Pixels, drive: Callable[[Run, Pixels], Iterator[NDArray[Any]]]) -> Entrant:
    device = choose_device("cpu")
    engine = Engine(device, WeightStore(options()))
    engine.load(model)
    plan = engine.plan(model, image.shape[1], image.shape[0])

    def run() -> Pixels:
        out = np.empty((plan.height * plan.scale, plan.width * plan.scale, 3), np.uint8)
        given = 0
        run = engine.open_run(model, plan, 8)
        for rows in drive(run, image):
            out[given : given + rows.shape[0]] = rows
            given += rows.shape[0]
        run.close()
        return out

    def notes() -> dict[str, Any]:
        return {"backend": device.backend, "plan": plan.to_dict(), "recomputed_share": plan.recomputed_share}

    entrant = Entrant(run, pixels=lambda rows: rows, notes=notes)
    entrant.holding.callback(engine.close)
    return entrant
