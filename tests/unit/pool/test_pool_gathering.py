"""A step of several runs in a worker."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upscaled_server.errors import DomainError, OutOfMemory
from upscaled_server.pool.gathering import Gathering
from upscaled_server.pool.inference import Inference
from upscaled_server.pool.open_run import OpenRun


def _too_large() -> OutOfMemory:
    """An error that came through a frame with a large array."""
    try:
        piece = np.zeros(100)
        piece_of.append(weakref.ref(piece))
        raise OutOfMemory("too large")
    except OutOfMemory as error:
        return error


piece_of: list[weakref.ref[Any]] = []


@pytest.mark.usefixtures("uncollected")
async def test_each_run_has_its_own_outcome_and_an_error_holds_nothing_afterwards() -> None:
    piece_of.clear()
    entries = {1: OpenRun(run="one"), 2: OpenRun(run="two")}
    gathering = Gathering(
        Inference(),
        entries,
        lambda runs: [np.full((1, 1, 3), 7, np.uint8) if run == "one" else _too_large() for run in runs],
    )

    async def failed() -> weakref.ref[BaseException]:
        try:
            await gathering.step((1, 2), 2, entries[2])
        except DomainError as error:
            return weakref.ref(error)
        raise AssertionError

    failing = asyncio.create_task(failed())
    await asyncio.sleep(0)
    rows: NDArray[Any]
    rows, seconds, images = await gathering.step((1, 2), 1, entries[1])
    error = await failing
    assert (rows.max(), images) == (7, 2)
    assert seconds > 0
    # The thread that computed lets go a moment after it has told the result.
    gathering._inference._threads.shutdown()
    await asyncio.sleep(0)
    assert [each() for each in (error, *piece_of)] == [None, None]
