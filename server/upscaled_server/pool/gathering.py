"""Steps of several runs that are computed together, once every one of them has asked for its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

from upscaled_server.errors import DomainError
from upscaled_server.pool.inference import Inference
from upscaled_server.pool.open_run import OpenRun

Outcome: TypeAlias = tuple[NDArray[Any], float, int] | DomainError
"""Rows, this run's share of the seconds, and how many were computed together: told to one of them, 0 to the
others, so that who adds up counts the step once."""


@dataclass(eq=False, slots=True)
class _Group:
    """The runs that are waited for, and those that have asked."""

    expected: set[int]
    entries: dict[int, OpenRun] = field(default_factory=dict)
    outcomes: asyncio.Future[dict[int, Outcome]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Gathering:
    """`compute` makes the step of all runs given, and gives rows or an error for each."""

    def __init__(
        self,
        inference: Inference,
        runs: Mapping[int, OpenRun],
        compute: Callable[[list[Any]], Sequence[NDArray[Any] | DomainError]],
    ) -> None:
        self._inference = inference
        self._runs = runs
        self._compute = compute
        self._groups: dict[tuple[int, ...], _Group] = {}

    async def step(
        self, key: tuple[int, ...], number: int, entry: OpenRun
    ) -> tuple[NDArray[Any], float, int]:
        """The share of run `number` of the step that the runs of `key` take together. Raises its error."""
        group = self._groups.get(key)
        if group is None:
            there = {run for run in key if run in self._runs and not self._runs[run].closed}
            group = self._groups[key] = _Group(there)
        group.entries[number] = entry
        self._begin(key, group)
        try:
            outcome = (await asyncio.shield(group.outcomes))[number]
        finally:
            del group  # its error refers to this frame
        if not isinstance(outcome, DomainError):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # as well

    def leave(self, number: int) -> None:
        """Whoever leaves before it asked is not waited for."""
        for key, group in list(self._groups.items()):
            if number in group.expected and number not in group.entries:
                group.expected.discard(number)
                self._begin(key, group)

    def _begin(self, key: tuple[int, ...], group: _Group) -> None:
        """Compute, if all are there."""
        if not group.expected <= group.entries.keys() or self._groups.pop(key, None) is None:
            return
        runs = [entry.run for entry in group.entries.values()]
        computing = asyncio.wrap_future(self._inference.submit(lambda _: self._compute(runs)).done)

        def done(computed: asyncio.Future[Any]) -> None:
            error = computed.exception()
            if error is not None:
                group.outcomes.set_exception(error)
                return
            outcomes, seconds = computed.result()
            shares: dict[int, Outcome] = {}
            untold = len(outcomes)
            for run, each in zip(group.entries, outcomes, strict=True):
                if isinstance(each, DomainError):
                    # The frames that it came through hold the piece, its result and, as a cycle, this.
                    shares[run] = each.with_traceback(None)
                else:
                    shares[run] = (each, seconds / len(outcomes), untold)
                    untold = 0
            group.outcomes.set_result(shares)

        computing.add_done_callback(done)
