"""Whose step a device does next: the runs in turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable


class Turns:
    """Grants up to `at_once` turns, round robin over the keys that wait.

    Waiting never refuses (a run has one step waiting at most, and admission bounds the runs). A wait that is
    cancelled leaves no trace. Every granted turn must be ended with `done`.
    """

    def __init__(self, at_once: int) -> None:
        self._left = at_once
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Steps that wait for their turn."""
        return sum(map(len, self._waiting.values()))

    async def wait(self, key: Hashable) -> None:
        """Returns when the turn is granted."""
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.done()  # granted in the same moment: to the next one
            else:
                self._forget(key, turn)
            raise

    def done(self) -> None:
        """A turn has ended, well or not."""
        self._left += 1
        self._grant()

    def _grant(self) -> None:
        while self._left > 0 and self._waiting:
            key, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[key] = turns  # behind all others
            if not turn.done():
                self._left -= 1
                turn.set_result(None)

    def _forget(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(key)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[key]
