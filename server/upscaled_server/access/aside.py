"""Credits that are set aside for work that runs, so that what is left is not spent twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from upscaled_server.access.accounts import Account
from upscaled_server.access.prices import NOTHING
from upscaled_server.errors import QuotaExceeded


@dataclass(frozen=True, slots=True)
class Asked:
    """What a piece of work may cost: its entry in the ledger, its whole price, how much of that was not
    charged before, and how much the caller may spend in the month; None: there is no end."""

    entry: str
    price: Decimal
    due: Decimal
    limit: Decimal | None


class Reserved(Protocol):
    """What was set aside."""

    async def release(self) -> None:
        """Give it back, after what was charged was written. Never raises."""


class Aside(Protocol):
    """Where it is noted."""

    @property
    def shared(self) -> bool:
        """Whether others charge the same accounts."""

    async def reserve(self, account: Account, asked: Asked) -> Reserved:
        """Raises `QuotaExceeded` where too little is left."""

    async def aclose(self) -> None:
        """After the last release."""


class AsideInMemory:
    """Of a server by itself."""

    shared = False

    async def reserve(self, account: Account, asked: Asked) -> ReservedHere:
        if asked.limit is not None:
            used = (await account.sums()).credits
            # Nothing is awaited between this answer and the reservation.
            check(account, asked.due, asked.limit, used=used, aside=account.reserved)
        return ReservedHere(account, asked.due)

    async def aclose(self) -> None:
        pass


class ReservedHere:
    """In the account, in memory."""

    def __init__(self, account: Account, amount: Decimal) -> None:
        self._account = account
        self._amount = amount
        account.reserve(amount)

    async def release(self) -> None:
        self._account.release(self._amount)


def check(account: Account, asked: Decimal, limit: Decimal, *, used: Decimal, aside: Decimal) -> None:
    """Raises `QuotaExceeded` if less than `asked` is left of the limit."""
    left = max(NOTHING, limit - used - aside)
    if asked <= left:
        return
    until = datetime.fromtimestamp(account.month.end, UTC)
    running = f", {aside.normalize():f} set aside for work that runs" if aside else ""
    raise QuotaExceeded(
        f"caller:{account.caller}",
        f"credits: {asked.normalize():f} are needed, {left.normalize():f} are left of "
        f"{limit.normalize():f} for the month that ends on {until:%Y-%m-%d at %H:%M} UTC{running}",
        asked=str(asked),
        left=str(left),
        limit=str(limit),
        month_ends=f"{until:%Y-%m-%dT%H:%M:%SZ}",
    )
