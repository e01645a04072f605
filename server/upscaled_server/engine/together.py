"""A step of several runs at once, on a device that gains by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from upscaled_server.engine.backends.base import Batching
from upscaled_server.engine.run import PiecesRun, Run
from upscaled_server.errors import DomainError, OutOfMemory, ProcessingFailed

Outcome = NDArray[Any] | DomainError


def step_together(runs: Sequence[Run]) -> list[Outcome]:
    """See `Engine.step_together`."""
    if len(runs) == 1:
        return [_stepped(runs[0])]
    keys = {run.batch_key for run in runs}
    pieces = [run for run in runs if isinstance(run, PiecesRun)]
    if len(keys) > 1 or None in keys or len({id(run) for run in pieces}) < len(runs):
        raise ProcessingFailed("these runs cannot be stepped together")
    if not pieces:
        return []
    network = pieces[0].network
    if not isinstance(network, Batching):
        raise ProcessingFailed("this network takes one piece at a time")
    try:
        network.infer_together([run.job() for run in pieces])
    except OutOfMemory:
        # One alone is too large: a run by itself cuts its piece in halves.
        return [_stepped(run) for run in pieces]
    return [run.finish() for run in pieces]


def _stepped(run: Run) -> Outcome:
    try:
        return run.step()
    except DomainError as error:
        return error
