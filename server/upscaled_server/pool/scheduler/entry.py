"""Something that waits for its turn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscaled_server.pool.scheduler.flow import Flow


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """`cost` is an estimate in device seconds. A caller of weight 2 gets twice the device seconds of one of
    weight 1 while both want more than they get.

    `latest_start`, a moment of the queue's clock: whoever has not begun by then will probably be late.
    `since`: the number of an earlier entry in whose place this one stands; 0 for none.
    """

    cost: float = 0.0
    caller: str = ""
    weight: float = 1.0
    batch: bool = False
    latest_start: float = math.inf
    since: int = 0
    queued_at: float = 0.0
    number: int = field(default=0, init=False)
    """Set by the queue: the order of arrival, from 1 on."""
    floor: float = field(default=0.0, init=False)
    """Set by the queue: the common clock's time when its caller began to wait."""
    flow: Flow[Any] | None = field(default=None, init=False, repr=False)
    """Where it waits; None while it does not."""
