"""A private event loop in a thread of its own, for callers that block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from upscaled._errors import ClientClosedError

T = TypeVar("T")

_STOP_SECONDS: Final = 10.0


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
        try:
            future, ended = self._submit(work)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientClosedError("the client was closed during the call") from None
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(_STOP_SECONDS)
            raise

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

    def _submit(self, work: Coroutine[Any, Any, T]) -> tuple[concurrent.futures.Future[T], threading.Event]:
        ended = threading.Event()

        async def guarded() -> T:
            try:
                return await work
            finally:
                ended.set()

        with self._lock:
            loop = self._running()
            return asyncio.run_coroutine_threadsafe(guarded(), loop), ended

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
        """Runs `last`, cancels what is left, and ends the thread. Stopping twice is harmless."""
        with self._lock:
            loop, thread, mine = self._loop, self._thread, os.getpid() == self._pid
            already, self._closed = self._closed, True
        if already or loop is None or thread is None or not mine:
            last.close()
            return
        ending = asyncio.run_coroutine_threadsafe(_wind_up(last), loop)
        try:
            ending.result(_STOP_SECONDS)
        except concurrent.futures.TimeoutError:
            pass  # a daemon thread: it does not keep the process alive
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_SECONDS)


async def _wind_up(last: Coroutine[Any, Any, object]) -> None:
    await last
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
