"""Waiting for a place on a device, while the caller hears how the queue stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
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
    """Enters an opening for `stack`, which leaves it at its end. Use once: iterate `standings`, then take
    `runs`."""

    def __init__(self, opening: OpeningChain, stack: AsyncExitStack) -> None:
        self._opening = opening
        self._stack = stack
        self.runs: tuple[PoolRun, ...] = ()

    async def standings(self) -> AsyncGenerator[Standing, None]:
        """How the queue stands, now and then, until the runs are open.

        Raises what entering raises. Closing or cancelling it gives the place up.
        """
        entering = asyncio.create_task(self._opening.__aenter__())
        try:
            while not (await asyncio.wait([entering], timeout=_NEWS_SECONDS))[0]:
                outlook = self._opening.outlook
                yield Standing(self._opening.position, None if outlook is None else outlook.ends_in_seconds)
            self.runs = entering.result()
            self._stack.push_async_exit(self._opening)
        finally:
            if not self.runs:
                await self._give_up(entering)

    async def _give_up(self, entering: asyncio.Task[tuple[PoolRun, ...]]) -> None:
        entering.cancel()
        await asyncio.wait([entering])
        if not entering.cancelled() and entering.exception() is None:
            # It came through in the very moment in which it was given up.
            await self._opening.__aexit__(None, None, None)
