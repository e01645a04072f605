"""How much memory decodes hold together, and whose turn it is when it is used up."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Need:
    amount: int
    owner: str
    batch: bool
    turn: asyncio.Future[None]


class MemoryBudget:
    """A number of bytes that owners share.

    A need above the total is granted alone. Needs up to `free_below` are granted at once and not counted:
    the number of decodes bounds those. Of others that wait, interactive ones go before batch ones, then whose
    owner holds least, then the first; batch ones together have two thirds of the total, so that images that
    wait long for a device leave room.
    """

    def __init__(self, total: int, *, free_below: int = 0) -> None:
        self._total = total
        self._free_below = free_below
        self._held: Counter[tuple[str, bool]] = Counter()
        self._waiting: list[_Need] = []

    @property
    def used(self) -> int:
        return self._held.total()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, amount: int, *, owner: str = "", batch: bool = False) -> Share:
        """Waits until `amount` bytes are free. Cancelling gives up the place in the line."""
        if amount <= self._free_below:
            return Share(self, 0, owner, batch=batch)
        amount = min(amount, self._most(batch=batch))
        need = _Need(amount, owner, batch, asyncio.get_running_loop().create_future())
        self._waiting.append(need)
        self._wake()
        try:
            await need.turn
        except asyncio.CancelledError:
            if need in self._waiting:
                self._waiting.remove(need)
                self._wake()
            else:
                self._give(amount, owner, batch=batch)
            raise
        return Share(self, amount, owner, batch=batch)

    def _most(self, *, batch: bool) -> int:
        return self._total * 2 // 3 if batch else self._total

    def _give(self, amount: int, owner: str, *, batch: bool) -> None:
        self._held[owner, batch] -= amount
        if not self._held[owner, batch]:
            del self._held[owner, batch]
        self._wake()

    def _wake(self) -> None:
        # Those that were cancelled leave the line as soon as they run.
        while there := [need for need in self._waiting if not need.turn.done()]:
            need = min(there, key=self._place)
            used_by_batch = sum(amount for (_, batch), amount in self._held.items() if batch)
            if self.used + need.amount > self._total:
                return
            if need.batch and used_by_batch + need.amount > self._most(batch=True):
                return
            self._waiting.remove(need)
            self._held[need.owner, need.batch] += need.amount
            need.turn.set_result(None)

    def _place(self, need: _Need) -> tuple[bool, int]:
        return need.batch, self._held[need.owner, False] + self._held[need.owner, True]


class Share:
    """Bytes of a `MemoryBudget` held by one decode. `release` may be called more than once."""

    def __init__(self, budget: MemoryBudget, amount: int, owner: str, *, batch: bool) -> None:
        self.amount = amount
        self._budget = budget
        self._owner = owner
        self._batch = batch

    def shrink(self, to: int) -> None:
        if to < self.amount:
            returned, self.amount = self.amount - to, to
            self._budget._give(returned, self._owner, batch=self._batch)

    def release(self) -> None:
        self.shrink(0)
