"""Letting a caller finish sending before it is told that the call is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

_DRAIN_SECONDS = 2.0


async def drain(messages: AsyncIterator[Any]) -> None:
    """Read on until the caller stops sending, for a bounded time.

    A grpcio asyncio client whose write meets a call that has just ended reports INTERNAL instead of the
    status it was sent (grpc/grpc#36066), so the status waits until nothing more is on its way.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in messages:
                pass
