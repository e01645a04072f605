"""What was charged, as it lies in the store: JSON, one entry a piece of work.

ledger/CALLER/YYYYMM/ENTRY       the month is that in which the work was admitted, UTC

An entry is made once and never removed or lowered. Nothing in it says what the image was.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Self

from upscaled_server.errors import ProcessingFailed
from upscaled_server.state.store import MAX_RANGE, Entry, Store

LEDGER = "ledger"


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month, UTC."""

    year: int
    number: int

    @classmethod
    def at(cls, moment: float) -> Self:
        """The month of a moment in Unix seconds."""
        date = datetime.fromtimestamp(moment, UTC)
        return cls(date.year, date.month)

    @property
    def name(self) -> str:
        return f"{self.year:04d}{self.number:02d}"

    @property
    def start(self) -> float:
        """Unix seconds."""
        return datetime(self.year, self.number, 1, tzinfo=UTC).timestamp()

    @property
    def end(self) -> float:
        return self.following.start

    @property
    def following(self) -> Month:
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def preceding(self) -> Month:
        return Month(self.year - (self.number == 1), (self.number - 2) % 12 + 1)


@dataclass(frozen=True, slots=True)
class Charged:
    """One piece of work: output pixels that were handed over, what they cost, and when the work was
    admitted (Unix seconds)."""

    model: str
    pixels: int
    credits: Decimal
    at: float


def entry_key(caller: str, month: Month, entry: str) -> str:
    return f"{_prefix(caller, month)}/{entry}"


def to_value(charged: Charged) -> bytes:
    values = {
        "model": charged.model,
        "pixels": charged.pixels,
        "credits": str(charged.credits),
        "at": int(charged.at * 1000),
    }
    return json.dumps(values, separators=(",", ":")).encode()


def read(entry: Entry) -> Charged:
    """Raises `ProcessingFailed` for an entry that is no charge."""
    try:
        values = json.loads(entry.value)
        return Charged(
            str(values["model"]), int(values["pixels"]), Decimal(values["credits"]), values["at"] / 1000
        )
    except (ValueError, TypeError, KeyError, InvalidOperation) as error:
        raise ProcessingFailed(
            f"the entry {entry.key} cannot be read ({type(error).__name__}); put a backup of the database in "
            "its place",
            key=entry.key,
        ) from error


def owner_of(key: str) -> tuple[str, str, str]:
    """The caller, the month's name and the entry's name of a key of an entry."""
    _, caller, month, entry = key.split("/", 3)
    return caller, month, entry


async def charges(store: Store, caller: str, month: Month) -> AsyncIterator[Charged]:
    """Every charge of a caller in a month."""
    async for _, charged in named_charges(store, caller, month):
        yield charged


async def named_charges(store: Store, caller: str, month: Month) -> AsyncIterator[tuple[str, Charged]]:
    """The same with the names of the entries."""
    last = ""
    while page := await store.range(_prefix(caller, month), after=last):
        for entry in page:
            yield owner_of(entry.key)[2], read(entry)
        if len(page) < MAX_RANGE:
            return
        last = page[-1].key


def _prefix(caller: str, month: Month) -> str:
    return f"{LEDGER}/{caller}/{month.name}"
