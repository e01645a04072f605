"""The small store interface that everything durable is built on, so that one machine and a cluster can both
keep it.

Every change is a compare-and-swap on one key. Lists ride on the order of keys. There are no transactions over
several keys: what needs more than one is a sequence of steps that can be taken up again after any of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from upscaled_server.errors import Conflict, InvalidInput
from upscaled_server.state.watching import Watch

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 512 * 1024
MAX_RANGE = 1000

# The characters that file systems, databases and message brokers agree on; `/` separates the parts.
_KEY = re.compile(r"[A-Za-z0-9_=-]+(?:/[A-Za-z0-9_=-]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and the version of its last change. Versions only grow, those of one key over its deletion too,
    and those of different keys in the order of their changes: a range that begins after a change has returned
    shows every change with a lower version."""

    key: str
    value: bytes
    version: int


class KeyExists(Conflict):
    """`create` found the key taken."""

    reason = "KEY_EXISTS"


class VersionChanged(Conflict):
    """The key is no longer at the version that was read."""

    reason = "VERSION_CHANGED"


class Store(Protocol):
    """Durable keys and values. A change that has returned is kept, whatever happens then.

    A call that is cancelled, or raises anything but what is named, may have happened or not: read to find
    out.
    Keys are at most 512 bytes of `[A-Za-z0-9_=-]` in parts separated by `/`, values at most 512 KiB.
    """

    async def get(self, key: str) -> Entry | None:
        """The entry as it is now."""

    async def has(self, key: str) -> bool:
        """Whether there is an entry, as far as this store knows, which is everything that a watch has
        told."""

    async def create(self, key: str, value: bytes) -> int:
        """The version of the new entry. Raises `KeyExists`."""

    async def update(self, key: str, value: bytes, version: int) -> int:
        """The next version. Raises `VersionChanged` if the entry is not at `version`, or gone."""

    async def delete(self, key: str, version: int) -> None:
        """Raises `VersionChanged` if the entry is not at `version`, or gone."""

    async def range(
        self, prefix: str, *, after: str = "", limit: int = MAX_RANGE, reverse: bool = False
    ) -> list[Entry]:
        """Entries under `prefix/`, in the order of their keys' bytes, or the other way round.

        `after`: begin behind this key, for the next page. At most `limit` entries, 1 to 1000; fewer if there
        are no more. Every change that had returned to anybody when the call began is seen; of those made
        meanwhile some may be.
        """

    def watch(self, prefix: str) -> Watch:
        """News of the key `prefix` and of those under `prefix/`, for as long as the context lasts.

        Every change that returns, to anybody, after this call is told; before a `range` returns that began
        after the change had returned, and before the change itself returns where it was made here.
        """

    async def aclose(self) -> None:
        """Finish what was begun."""


def check_key(key: str) -> None:
    """Raises `InvalidInput` for what no store could keep."""
    if len(key) > MAX_KEY_BYTES or not _KEY.fullmatch(key):
        raise InvalidInput(
            f"{key[:80]!a} cannot be a key: 1 to {MAX_KEY_BYTES} characters of [A-Za-z0-9_=-] in parts "
            "separated by / are expected",
            length=len(key),
        )


def check_value(value: bytes) -> None:
    """Raises `InvalidInput` for what is too large."""
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidInput("the value is too large", limit=MAX_VALUE_BYTES, actual=len(value))


def check_limit(limit: int) -> None:
    """Raises `InvalidInput` outside 1 to 1000."""
    if not 1 <= limit <= MAX_RANGE:
        raise InvalidInput("limit is out of range", limit=MAX_RANGE, actual=limit)
