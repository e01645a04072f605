"""Reads what others change, for those who keep something of the store in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from itertools import islice

from upscaled_server.errors import DomainError
from upscaled_server.state.store import Entry, Store

_LOG = logging.getLogger(__name__)

_AT_ONCE = 32
_AGAIN_SECONDS = 0.5


class ChangeReader:
    """Reads every entry under a prefix again when anybody has changed it, from the moment this is made.

    `reload` is called at first, and where too much was changed to tell: everything is to be read. `take` gets
    a key that was changed and the entry as it is then, None if it is gone; never one that is older than what
    was written over the same store before. It must not raise. `wanted` says of a key whether its entry is of
    interest.

    Either `catch_up` now and then, which costs nothing where nothing was changed, or `follow` all the time.
    `close` it. Meanwhile it keeps the keys that were not read yet, at most 1000.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        take: Callable[[str, Entry | None], None],
        reload: Callable[[], Awaitable[None]],
        *,
        wanted: Callable[[str], bool] = lambda _key: True,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._take = take
        self._reload = reload
        self._wanted = wanted
        self._stack = ExitStack()
        self._watch = self._stack.enter_context(store.watch(prefix))
        self._watch.tell(prefix)
        self._one_reader = asyncio.Lock()

    def close(self) -> None:
        self._stack.close()

    async def catch_up(self) -> None:
        """Return when everything that had been told is taken.

        Raises what the store and `reload` raise; the next call then goes on with what is left.
        """
        if self._one_reader.locked() or self._watch.unread:
            async with self._one_reader:
                await self._read()

    async def follow(self) -> None:
        """For ever, whatever the store is like. Raises `Unavailable` when it is closed."""
        level = logging.WARNING
        while True:
            await self._watch.some()
            try:
                await self.catch_up()
                level = logging.WARNING
            except DomainError as error:
                _LOG.log(level, "what was changed under %s is read later: %s", self._prefix, error.message)
                level = logging.DEBUG  # said once
                await asyncio.sleep(_AGAIN_SECONDS)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is taken while the context lasts, so that what is read within is not older than what was
        taken before; what was changed meanwhile is taken afterwards."""
        async with self._one_reader:
            yield

    async def _read(self) -> None:
        unread = self._watch.unread
        # What is told from here on is for the next call, or this would not end as long as others go on.
        told = list(unread)
        if self._prefix in told:
            self._watch.forget(told)
            try:
                await self._reload()
            except BaseException:  # a cancellation too
                self._watch.tell(self._prefix)
                raise
            return
        for key in told:
            if not self._wanted(key):
                self._watch.forget([key])
        keys = iter([key for key in told if key in unread])
        while page := list(islice(keys, _AT_ONCE)):
            await self._read_page(page)

    async def _read_page(self, keys: list[str]) -> None:
        # Told again from now on means changed since, so that what comes is too old.
        self._watch.forget(keys)
        try:
            entries = await asyncio.gather(*map(self._store.get, keys))
        except BaseException:  # a cancellation too
            for key in keys:
                self._watch.tell(key)
            raise
        for key, entry in zip(keys, entries, strict=True):
            if not self._watch.unread & {key, self._prefix}:
                self._take(key, entry)
