"""Our engine in its own process, as it is in a worker process of the server: with the plan that the server
would choose, the allocator's settings, and steps that overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks.contest.driving import rows_of
from tests.benchmarks.contest.entrants import Entrant, Pixels
from tests.benchmarks.contest.weights import options
from upscaled_server.engine.device import choose_device
from upscaled_server.engine.engine import Engine
from upscaled_server.engine.weights.store import WeightStore


def prepare(model: str, image: Pixels) -> Entrant:
    device = choose_device("cpu")
    engine = Engine(device, WeightStore(options()))
    engine.load(model)
    plan = engine.plan(model, image.shape[1], image.shape[0])

    def run() -> Pixels:
        out = np.empty((plan.height * plan.scale, plan.width * plan.scale, 3), np.uint8)
        given = 0
        run = engine.open_run(model, plan, 8)
        for rows in rows_of(run, image):
            out[given : given + rows.shape[0]] = rows
            given += rows.shape[0]
        run.close()
        return out

    def notes() -> dict[str, Any]:
        return {
            "backend": device.backend,
            "plan": plan.to_dict(),
            "recomputed_share": plan.recomputed_share,
            "as_in_a_worker": True,
        }

    entrant = Entrant(run, pixels=lambda rows: rows, notes=notes)
    entrant.holding.callback(engine.close)
    return entrant
