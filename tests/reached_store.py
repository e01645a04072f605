"""A store as a replica sees it that may be cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from upscaled_server.errors import Unavailable
from upscaled_server.state.store import Store


class Reached:
    """What a replica has of the store: all of it, errors, or no answer at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._away = False
        self._answers = asyncio.Event()
        self._answers.set()

    def become(self, state: str) -> None:
        """`near`, `away` or `silent`."""
        self._away = state == "away"
        if state == "silent":
            self._answers.clear()
        else:
            self._answers.set()

    def watch(self, prefix: str) -> Any:
        return self._store.watch(prefix)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        work = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            if self._away:
                raise Unavailable("the store is away")
            await self._answers.wait()
            return await work(*arguments, **options)

        return call
