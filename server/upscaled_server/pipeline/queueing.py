"""Waiting for a place on a device, while the caller hears how the queue stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from upscaled_server.pool.opening import OpeningChain
from upscaled_server.pool.run import PoolRun

_NEWS_SECONDS = 1.0


class Queueing:
    """Enters an opening for `stack`, which leaves it at its end. Use once: iterate `positions`, then take
    `runs`."""

    def __init__(self, opening: OpeningChain, stack: AsyncExitStack) -> None:
        self._opening = opening
        self._stack = stack
        self.runs: tuple[PoolRun, ...] = ()

    async def positions(self) -> AsyncGenerator[int, None]:
        """The place in the queue, now and then, until there is one on a device: 1 is next.

        Raises what entering raises. Closing or cancelling it gives the place up.
        """
        entering = asyncio.create_task(self._opening.__aenter__())
        try:
            while not (await asyncio.wait([entering], timeout=_NEWS_SECONDS))[0]:
                yield self._opening.position
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
