"""How many device seconds each caller has had, as the time of a clock that runs slower for heavier callers.

Start-time fair queueing (Goyal, Vin and Cheng 1996): what deficit round robin comes to as its quantum goes to
nothing. A quantum that covers the longest unit would let a caller with short ones have dozens of them in a
row, and a smaller one needs many rounds for each long unit; this takes neither, and no loop over the callers.
"""

from __future__ import annotations

from upscaled_server.pool.scheduler.entry import Entry

# Accounts are looked through when there are twice as many as after the last time.
_FEW_ACCOUNTS = 64


class Shares:
    """Accounts of callers, in device seconds divided by weight, on one common clock (`now`).

    A caller who asked for nothing for a while begins where the others are: shares are not saved up.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._finish: dict[str, float] = {}
        self._look_through_at = _FEW_ACCOUNTS

    def __len__(self) -> int:
        return len(self._finish)

    def start(self, caller: str, floor: float) -> float:
        """When, on the common clock, the caller's next turn is due. `floor` is when it began to wait."""
        return max(floor, self._finish.get(caller, floor))

    def charge(self, entry: Entry, floor: float) -> None:
        """The entry gets its turn."""
        start = self.start(entry.caller, floor)
        self.now = max(self.now, start)
        self._finish[entry.caller] = start + entry.cost / entry.weight
        if len(self._finish) > self._look_through_at:
            self._forget_the_idle()

    def correct(self, entry: Entry, seconds: float) -> None:
        """The entry took this long instead of its `cost`."""
        finish = self._finish.get(entry.caller)
        if finish is not None:
            self._finish[entry.caller] = finish + (seconds - entry.cost) / entry.weight

    def _forget_the_idle(self) -> None:
        self._finish = {caller: finish for caller, finish in self._finish.items() if finish > self.now}
        self._look_through_at = max(_FEW_ACCOUNTS, 2 * len(self._finish))
