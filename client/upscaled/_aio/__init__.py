"""The asyncio core: everything the SDK does happens here; `_blocking` only waits for it."""

from upscaled._aio.client import AsyncClient
from upscaled._aio.inputs import AsyncInputs
from upscaled._aio.job import AsyncJob
from upscaled._aio.jobs import AsyncJobs
from upscaled._aio.models import AsyncModels
from upscaled._aio.outputs import AsyncOutputs
from upscaled._aio.streams import AsyncStream

__all__ = [
    "AsyncClient",
    "AsyncInputs",
    "AsyncJob",
    "AsyncJobs",
    "AsyncModels",
    "AsyncOutputs",
    "AsyncStream",
]
