"""The asynchronous client behind the blocking one's surface, in the simplest way there is."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from upscaled import AsyncClient, AsyncInputs, AsyncJob, AsyncJobs, AsyncModels, AsyncOutputs, AsyncStream

_PARTS = (AsyncInputs, AsyncJob, AsyncJobs, AsyncModels, AsyncOutputs)


class Waiting:
    """Waits for every coroutine, and gathers every stream into a list."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._runner = asyncio.Runner()
        self._inner = AsyncClient(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        return _waited(self._runner, getattr(self._inner, name))

    def close(self) -> None:
        self._runner.run(self._inner.aclose())
        self._runner.close()


class _Part:
    def __init__(self, runner: asyncio.Runner, inner: Any) -> None:
        self._runner = runner
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return _waited(self._runner, getattr(self.inner, name))


def _waited(runner: asyncio.Runner, value: Any) -> Any:
    if isinstance(value, _PARTS):
        return _Part(runner, value)
    if isinstance(value, AsyncStream):
        return [_waited(runner, item) for item in runner.run(_gather(value))]
    if not inspect.ismethod(value):
        return value

    def call(*args: Any, **keywords: Any) -> Any:
        args = tuple(arg.inner if isinstance(arg, _Part) else arg for arg in args)
        answer = value(*args, **keywords)
        return _waited(runner, runner.run(answer) if inspect.iscoroutine(answer) else answer)

    return call


async def _gather(stream: AsyncStream[Any]) -> list[Any]:
    return [item async for item in stream]
