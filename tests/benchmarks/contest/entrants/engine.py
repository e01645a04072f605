"""Our engine in its own process, with the plan that the server would choose."""

from __future__ import annotations

from typing import Any

import numpy as np

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
        run = engine.open_run(model, plan, 8)
        fed = given = 0
        while not run.done:
            while run.rows_wanted:
                rows = image[fed : fed + run.rows_wanted]
                run.feed(rows)
                fed += rows.shape[0]
            rows = run.step()
            out[given : given + rows.shape[0]] = rows
            given += rows.shape[0]
        run.close()
        return out

    def notes() -> dict[str, Any]:
        return {"backend": device.backend, "plan": plan.to_dict(), "recomputed_share": plan.recomputed_share}

    entrant = Entrant(run, pixels=lambda rows: rows, notes=notes)
    entrant.holding.callback(engine.close)
    return entrant
