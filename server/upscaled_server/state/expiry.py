"""What ends when: entries in the order of time, so that whoever clears up reads from the lowest."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from upscaled_server.state.store import KeyExists, Store, VersionChanged

PREFIX = "expiry"

_KEY = re.compile(rf"{PREFIX}/(\d{{13}})-(job|in|out)-(.+)-([0-9A-Z]{{26}})")


@dataclass(frozen=True, slots=True)
class Expiry:
    """`kind` is `job`, `in` or `out`; `milliseconds` since 1970."""

    milliseconds: int
    kind: str
    caller: str
    id: str

    @property
    def key(self) -> str:
        return f"{PREFIX}/{self.milliseconds:013}-{self.kind}-{self.caller}-{self.id}"


def read_expiry(key: str) -> Expiry:
    """Raises `ValueError` for a key that is none."""
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise ValueError(f"{key} is not an entry of {PREFIX}/")
    return Expiry(int(parts[1]), parts[2], parts[3], parts[4])


async def note_expiry(store: Store, expiry: Expiry) -> None:
    """A second time is as good as the first."""
    with suppress(KeyExists):
        await store.create(expiry.key, b"")


async def drop_expiry(store: Store, expiry: Expiry) -> None:
    found = await store.get(expiry.key)
    if found is not None:
        with suppress(VersionChanged):
            await store.delete(found.key, found.version)
