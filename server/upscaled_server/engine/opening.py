"""The run that a plan asks for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from upscaled_server.engine.backends.base import Empty, LoadedNetwork
from upscaled_server.engine.bands.network import Streamable
from upscaled_server.engine.bands.run import BandsRun
from upscaled_server.engine.run import Bits, PiecesRun, Planes, Run
from upscaled_server.errors import ProcessingFailed
from upscaled_server.tiling.plan import RunPlan


def open_planned_run(
    network: LoadedNetwork,
    plan: RunPlan,
    out_bits: Bits,
    executor: Executor,
    on_close: Callable[[], None],
    *,
    planes: Planes = 3,
    on_step: Callable[[], None] = lambda: None,
    empty: Empty = np.empty,
) -> Run:
    """`on_step` is called when a step begins. `empty` makes the arrays that steps return.

    Raises `ProcessingFailed` for a plan that is not for this network.
    """
    if plan.way != "bands":
        return PiecesRun(
            network, plan, out_bits, executor, on_close, planes=planes, on_step=on_step, empty=empty
        )
    if not isinstance(network, Streamable):
        raise ProcessingFailed("this network has no run in bands")
    return BandsRun(
        network.bands(), plan, out_bits, executor, on_close, planes=planes, on_step=on_step, empty=empty
    )
