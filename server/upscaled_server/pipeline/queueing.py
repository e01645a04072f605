"""Waiting for a place on a device, while the caller hears how the queue stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from upscaled_server.pool.opening import OpeningChain
from upscaled_server.pool.run import PoolRun

_NEWS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Standing:
    """The place in the queue, 1 for the next, 0 for who has a place on a device and waits for its model; and
    an estimate of the seconds until the network is done with the image, None for those."""

    position: int
    remaining_seconds: float | None


class Queueing:
    """Waits for the place from its beginning on, whatever its caller does meanwhile. A context: leaving it
    gives the place up, or closes the runs.
    """

    def __init__(self, opening: OpeningChain) -> None:
        self._opening = opening
        self._entering: asyncio.Task[tuple[PoolRun, ...]] | None = None

    async def __aenter__(self) -> Queueing:
        self._entering = asyncio.create_task(self._opening.__aenter__())
        return self

    async def __aexit__(self, *_: object) -> None:
        entering, self._entering = self._begun, None
        entering.cancel()
        await asyncio.wait([entering])
        if not entering.cancelled() and entering.exception() is None:
            await self._opening.__aexit__(None, None, None)

    @property
    def runs(self) -> tuple[PoolRun, ...]:
        """When `standings` has ended."""
        return self._begun.result()

    async def standings(self) -> AsyncGenerator[Standing, None]:
        """How the queue stands, now and then, until the runs are open. Raises what entering the opening
        raises."""
        while not (await asyncio.wait([self._begun], timeout=_NEWS_SECONDS))[0]:
            outlook = self._opening.outlook
            yield Standing(self._opening.position, None if outlook is None else outlook.ends_in_seconds)
        self._begun.result()

    @property
    def _begun(self) -> asyncio.Task[tuple[PoolRun, ...]]:
        if self._entering is None:
            raise RuntimeError("the context has not been entered, or has been left")
        return self._entering
