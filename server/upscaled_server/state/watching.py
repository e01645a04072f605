"""News of changes: which keys to read again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, KeysView
from types import TracebackType

from upscaled_server.errors import Unavailable

MAX_UNREAD = 1000


class Watch:
    """The keys that were changed since they were last told, one after the other: `async for key in watch`.

    Several changes of a key are told as one, and a key may be told that was not changed: what counts is the
    entry, so read it. A reader that is behind by more than 1000 keys is told the watched prefix itself, which
    stands for everything under it. Raises `Unavailable` when the store is closed. For one reader.
    """

    def __init__(self, watches: Watches, prefix: str) -> None:
        self._watches = watches
        self._prefix = prefix
        self._unread: dict[str, None] = {}
        self._too_many = False
        self._some = asyncio.Event()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watches.forget(self)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> str:
        await self.some()
        key = next(iter(self._unread))
        self.forget([key])
        return key

    @property
    def unread(self) -> KeysView[str]:
        """What was told and not taken yet, as it is at any moment."""
        return self._unread.keys()

    async def some(self) -> None:
        """Return when something is unread. Raises as the iteration does."""
        while not self._unread:
            if self._watches.closed:
                raise Unavailable("the store is closed: the server is stopping")
            self._some.clear()
            await self._some.wait()

    def forget(self, keys: Iterable[str]) -> None:
        """They are read, or will be."""
        self._too_many = False
        for key in keys:
            self._unread.pop(key, None)

    def covers(self, key: str) -> bool:
        return key == self._prefix or key.startswith(f"{self._prefix}/")

    def tell(self, key: str) -> None:
        if self._too_many:
            return
        if len(self._unread) >= MAX_UNREAD and key not in self._unread:
            self._unread.clear()
            self._too_many, key = True, self._prefix
        self._unread[key] = None
        self._some.set()

    def wake(self) -> None:
        self._some.set()


class Watches:
    """Every open watch of one store. Used from the thread of the event loop."""

    def __init__(self) -> None:
        self._open: set[Watch] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, prefix: str) -> Watch:
        """Raises `Unavailable` once closed."""
        if self.closed:
            raise Unavailable("the store is closed: the server is stopping")
        watch = Watch(self, prefix)
        self._open.add(watch)
        return watch

    def forget(self, watch: Watch) -> None:
        self._open.discard(watch)

    def tell(self, key: str) -> None:
        """Tell everybody whom the change of this key concerns."""
        for watch in self._open:
            if watch.covers(key):
                watch.tell(key)

    def close(self) -> None:
        """Readers hear what is unread, and then that the store is closed."""
        self.closed = True
        for watch in self._open:
            watch.wake()
