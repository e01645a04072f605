"""What lies in the queue, as a message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from nats.js.api import Header

from upscaled_server.errors import InvalidInput
from upscaled_server.state.nats.work.lane import Lane
from upscaled_server.state.store import MAX_VALUE_BYTES, check_value

_OWNER = "Upscaled-Owner"
_COST = "Upscaled-Cost"
_MAX_OWNER = 512
_ID = re.compile(r"[A-Za-z0-9_=.-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A piece of work. Publishing another with the same `id` within two minutes changes nothing.

    Raises `InvalidInput` for what no queue could keep.
    """

    id: str
    owner: str
    """Whose it is: owners share the queue fairly, by cost."""
    urgent: bool
    """Taken before those that are not; of eight items that are taken, one may be of the others."""
    cost: float
    """Seconds of a device."""
    data: bytes = b""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidInput(
                f"{self.id[:80]!a} cannot be an item's id: 1 to 256 characters of [A-Za-z0-9_=.-] "
                "are expected",
                length=len(self.id),
            )
        if not (math.isfinite(self.cost) and self.cost > 0):
            raise InvalidInput("an item's cost is seconds above 0", actual=self.cost)
        if len(self.owner) > _MAX_OWNER:
            raise InvalidInput("an item's owner is too long", limit=_MAX_OWNER, actual=len(self.owner))
        check_value(self.data)


def headers_of(item: Item) -> dict[str, str]:
    return {
        Header.MSG_ID: item.id,
        _OWNER: quote(item.owner, safe="", errors="surrogatepass"),
        _COST: repr(item.cost),
    }


def item_of(lane: Lane, number: int, headers: Mapping[str, str] | None, data: bytes) -> Item:
    """Of the message with this number. One that somebody else put there is an item too: what it is worth
    decides who takes it."""
    given = headers or {}
    identity = given.get(Header.MSG_ID, "")
    return Item(
        id=identity if _ID.fullmatch(identity) else f"message-{number}",
        owner=unquote(given.get(_OWNER, ""), errors="surrogatepass")[:_MAX_OWNER],
        urgent=lane.urgent,
        cost=_cost(given.get(_COST, "")),
        data=data[:MAX_VALUE_BYTES],
    )


def _cost(text: str) -> float:
    try:
        cost = float(text)
    except ValueError:
        return 1.0
    return cost if math.isfinite(cost) and cost > 0 else 1.0
