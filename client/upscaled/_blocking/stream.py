"""What arrives one after the other, for callers that block."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from upscaled._aio.streams import AsyncStream
from upscaled._loop import LoopThread

T = TypeVar("T")


class Stream(Generic[T]):
    """Leaving it early (a `break` that drops the last reference, `close()`, the end of a `with`, closing the
    client) ends the call on the server at once.
    """

    def __init__(
        self,
        owner: Any,
        thread: LoopThread,
        items: AsyncStream[Any],
        convert: Callable[[Any], T] = lambda item: cast("Any", item),
    ) -> None:
        self._owner = owner  # keeps the connection open while somebody reads
        self._thread = thread
        self._items = items
        self._convert = convert

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self._convert(self._thread.run(self._items.__anext__()))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Cancels the call if it is still running."""
        self._thread.run(self._items.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._thread.call_soon(self._items.aclose())
