"""BackgroundWork that goes on beside everything else, for as long as that lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from upscaled_server.errors import DomainError
from upscaled_server.state.nats.tasks import cancel_for_certain

log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 5.0

BackgroundWork: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def in_background(*works: BackgroundWork) -> AsyncIterator[None]:
    """Each of them goes on while the context lasts; one that ends, for whatever reason, begins again."""
    tasks = [asyncio.create_task(_for_ever(work), name=work.__qualname__) for work in works]
    try:
        yield
    finally:
        await asyncio.gather(*map(cancel_for_certain, tasks))


async def _for_ever(work: BackgroundWork) -> None:
    while True:
        try:
            await work()
        except DomainError as error:
            log.warning("%s begins again: %s", work.__qualname__, error.message)
        except Exception:  # whatever it was, it must not be the last time
            log.exception("%s begins again", work.__qualname__)
        await asyncio.sleep(_AGAIN_SECONDS)
