"""How many decodes run at a time, and how much memory they hold together."""

from __future__ import annotations

import asyncio
from collections import deque


class MemoryBudget:
    """A number of bytes shared first come, first served.

    A need above the total is granted alone. Needs up to `free_below` are granted at once and not
    counted: the number of decodes bounds those.
    """

    def __init__(self, total: int, *, free_below: int = 0) -> None:
        self._total = total
        self._free_below = free_below
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        return self._used

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, need: int) -> Share:
        """Waits until `need` bytes are free. Cancelling gives up the place in the line."""
        if need <= self._free_below:
            return Share(self, 0)
        need = min(need, self._total)
        if self._waiting or self._used + need > self._total:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (need, turn)
            self._waiting.append(entry)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.cancelled():
                    if entry in self._waiting:
                        self._waiting.remove(entry)
                    self._wake()
                else:
                    self._give(need)
                raise
        else:
            self._used += need
        return Share(self, need)

    def _give(self, amount: int) -> None:
        self._used -= amount
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            need, turn = self._waiting[0]
            if not turn.done():
                if self._used + need > self._total:
                    return
                self._used += need
                turn.set_result(None)
            self._waiting.popleft()


class Share:
    """Bytes of a `MemoryBudget` held by one decode. `release` may be called more than once."""

    def __init__(self, budget: MemoryBudget, amount: int) -> None:
        self._budget = budget
        self.amount = amount

    def shrink(self, to: int) -> None:
        if to < self.amount:
            returned, self.amount = self.amount - to, to
            self._budget._give(returned)

    def release(self) -> None:
        self.shrink(0)
