"""The asyncio core: everything the SDK does happens here; `_blocking` only waits for it."""

from upscaled._aio.client import AsyncClient, AsyncModels
from upscaled._aio.events import EventStream

__all__ = ["AsyncClient", "AsyncModels", "EventStream"]
