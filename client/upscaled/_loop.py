"""A private event loop in a thread of its own, for callers that block."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from upscaled._errors import ClientClosedError

T = TypeVar("T")

_STOP_SECONDS: Final = 10.0
# For what has no reason to go on.
_END_SECONDS: Final = 1.0
_SIGNAL_SECONDS: Final = 0.5


class _Call(Generic[T]):
    """Work on its way through the loop. An interrupt may come at any point of handing it over, so what is
    known of it is known before it is handed over.

    The two threads share bare locks alone. An interrupt inside a `Condition`, and so inside a `Future` or an
    `Event`, can leave it locked for ever, and the loop waits for it.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._taken = threading.Lock()  # by the loop to begin it, or by the caller to drop it
        self._running = threading.Lock()
        self._running.acquire()
        self._tasks: list[asyncio.Task[T]] = []  # one, once it has begun
        self.ended = False

    # These run in the loop's thread.

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._taken.acquire(blocking=False):
            task = loop.create_task(self._work)
            task.add_done_callback(self._end)
            self._tasks.append(task)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # the caller may have left, and asyncio would complain of it
        self.ended = True
        self._running.release()

    # These run in the caller's thread.

    def drop(self) -> bool:
        """Whether it had not begun, and now never will."""
        if not self._taken.acquire(blocking=False):
            return False
        self._work.close()
        return True

    def wait(self, seconds: float = math.inf) -> None:
        """Returns when the work has ended, or after so long."""
        until = time.monotonic() + seconds
        while not self.ended and (left := until - time.monotonic()) > 0:
            # A signal that comes when Python has looked for signals the last time, but the lock does not wait
            # yet, wakes nobody. So it is looked for now and then.
            self._running.acquire(timeout=min(left, _SIGNAL_SECONDS))

    def result(self) -> T:
        """Of work that has ended, once. Raises CancelledError where it was cancelled."""
        # An error refers to this frame: were the task kept, it could go only by garbage collection, and with
        # it the connection of its call.
        (task,) = self._tasks
        self._tasks.clear()
        try:
            return task.result()
        finally:
            del task


class LoopThread:
    """Runs coroutines for any number of threads. Starts with the first one; belongs to the process that made
    it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._closed = False
        self._finalising: set[asyncio.Future[object]] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for `work`. Whatever interrupts the waiting (Ctrl-C) cancels it and waits until it has
        cleaned up.
        """
        call = _Call(work)
        try:
            with self._lock:
                loop = self._running()
                loop.call_soon_threadsafe(call.begin, loop)
            call.wait()
        except BaseException:  # Ctrl-C too
            self._abandon(call)
            raise
        try:
            return call.result()
        except asyncio.CancelledError:
            raise ClientClosedError("the client was closed during the call") from None

    def call_soon(self, work: Coroutine[Any, Any, object]) -> None:
        """Starts `work` without waiting; drops it when the loop is gone. For finalisers.

        Takes no lock: the garbage collector runs finalisers anywhere, also in a thread that holds it.
        """
        loop = self._loop
        if loop is None or self._closed or os.getpid() != self._pid:
            work.close()
            return
        try:
            loop.call_soon_threadsafe(self._start, work)
        except RuntimeError:  # the loop was closed meanwhile
            work.close()

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        # The loop itself keeps no strong reference to its tasks.
        self._finalising.add(task)
        task.add_done_callback(self._finalising.discard)

    def _abandon(self, call: _Call[Any]) -> None:
        if not call.drop() and not call.ended and self._loop is not None:
            self._loop.call_soon_threadsafe(call.cancel)
            call.wait(_STOP_SECONDS)

    def _running(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._pid:
            raise ClientClosedError(
                "a Client cannot be used in a forked process: threads and connections stay behind"
            )
        if self._closed:
            raise ClientClosedError("this client is closed")
        if threading.current_thread() is self._thread:
            raise ClientClosedError(
                "a blocking call was made inside the client's own thread, where it would wait forever"
            )
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._main, args=(self._loop,), name="upscaled", daemon=True
            )
            self._thread.start()
        return self._loop

    @staticmethod
    def _main(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def stop(self, last: Coroutine[Any, Any, object]) -> None:
        """Runs `last`, cancels what is left, and ends the thread. Stopping twice is harmless.

        Waits for all that, but in the thread itself, where the garbage collector may run the finaliser of a
        client that was not closed.
        """
        with self._lock:
            loop, thread, mine = self._loop, self._thread, os.getpid() == self._pid
            already, self._closed = self._closed, True
        if already or loop is None or thread is None or not mine:
            last.close()
            return
        if thread is threading.current_thread():
            _stop_from_within(loop, last)
            return
        ending = _Call(_wind_up(last))
        try:
            loop.call_soon_threadsafe(ending.begin, loop)
            ending.wait(_STOP_SECONDS)  # the thread is a daemon: it does not keep the process alive
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_SECONDS)


_stopping_from_within: set[asyncio.Task[None]] = set()
"""A loop itself keeps no strong reference to its tasks."""


def _stop_from_within(loop: asyncio.AbstractEventLoop, last: Coroutine[Any, Any, object]) -> None:
    def end(task: asyncio.Task[None]) -> None:
        _stopping_from_within.discard(task)
        if not task.cancelled():
            task.exception()  # nobody is there to be told
        loop.stop()

    task = loop.create_task(_wind_up(last))
    _stopping_from_within.add(task)
    task.add_done_callback(end)


async def _wind_up(last: Coroutine[Any, Any, object]) -> None:
    await last
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        # grpc's end by themselves now. Cut off, they would leave events to a loop that is closed, and the
        # loop of another client, which finds them, would complain on stderr.
        _, others = await asyncio.wait(others, timeout=_END_SECONDS)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
