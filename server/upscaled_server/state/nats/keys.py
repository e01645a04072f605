"""Every key of the bucket in memory, in the order of its bytes, with the version of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from sortedcontainers import SortedDict

from upscaled_server.state.nats.subjects import is_own


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion left: the version of its marker, and when this process heard of it (monotonic)."""

    version: int
    heard: float


class Keys:
    """As the stream has them up to the message number `position`, and perhaps somewhat later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._versions: SortedDict = SortedDict()
        self._deletions: dict[str, Deletion] = {}
        self._own: dict[str, int] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}
        self.position = 0
        self.newest = 0
        """The greatest version that was seen, which may be beyond `position`."""

    def __len__(self) -> int:
        return len(self._versions)

    def apply(self, key: str, version: int, *, deleted: bool) -> bool:
        """Take note of a change; whether it is news. They may come twice and in any order."""
        if version <= self.version_of(key):
            return False
        self.newest = max(self.newest, version)
        if is_own(key):
            self._own[key] = version
            return True
        # Last in the order of what is swept.
        self._deletions.pop(key, None)
        if deleted:
            self._versions.pop(key, None)
            self._deletions[key] = Deletion(version, self._clock())
        else:
            self._versions[key] = version
        return True

    def advance(self, position: int) -> None:
        """Every change up to this message is noted."""
        self.position = max(self.position, position)
        for waiting, wanted in self._waiting.items():
            if wanted <= position and not waiting.done():
                waiting.set_result(None)

    def give_up(self) -> None:
        """Others take the place of these: whoever waits looks there."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def reached(self, position: int) -> None:
        """Return when every change up to this message is noted, or others take the place of these."""
        if self.position >= position:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = position
        try:
            await waiting
        finally:
            del self._waiting[waiting]

    def version_of(self, key: str) -> int:
        """Of the last change that is known, be it a deletion; 0 if there is none."""
        if is_own(key):
            return self._own.get(key, 0)
        version: int = self._versions.get(key, 0)
        return version or self.deletion_of(key)

    def has(self, key: str) -> bool:
        return key in self._versions

    def deletion_of(self, key: str) -> int:
        """The version of the marker that a deletion left; 0 if there is none."""
        found = self._deletions.get(key)
        return found.version if found else 0

    def page(self, prefix: str, after: str, limit: int, *, reverse: bool) -> list[tuple[str, int]]:
        """Keys under `prefix/` behind `after`, each with its version."""
        low, high = f"{prefix}/", f"{prefix}0"  # "0" follows "/" in the order of bytes
        if reverse:
            high = min(after, high) if after else high
        else:
            low = max(after, low)
        if low >= high:
            return []
        found: Iterable[str] = self._versions.irange(low, high, inclusive=(False, False), reverse=reverse)
        return [(key, self._versions[key]) for key in islice(found, limit)]

    def deletions(self, heard_before: float) -> Iterator[tuple[str, int]]:
        """Markers that are known for long enough, the oldest first."""
        for key, deletion in self._deletions.items():
            if deletion.heard > heard_before:
                return
            yield key, deletion.version

    def forget_deletions(self, through: int) -> None:
        """Markers up to this version are being removed, by whoever it is."""
        for key in [key for key, each in self._deletions.items() if each.version <= through]:
            del self._deletions[key]

    def differing(self, other: Keys) -> list[str]:
        """Keys that the two do not have alike."""
        mine, others = self._versions, other._versions
        changed = [key for key, version in mine.items() if others.get(key) != version]
        return changed + [key for key in others if key not in mine]
