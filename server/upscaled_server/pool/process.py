"""One worker process, seen from the server: started, talked to, watched, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from upscaled_server.errors import DomainError, ProcessingFailed, Unavailable, WorkerLost
from upscaled_server.pool.calls import Answer, Calls
from upscaled_server.pool.output import log_output
from upscaled_server.pool.pixels import Parcel, Shelf, unpack
from upscaled_server.pool.protocol import unpack_error
from upscaled_server.pool.stats import DeviceCounts
from upscaled_server.pool.transport import Channel, Message

log = logging.getLogger("upscaled_server.pool")

_COPY_ELSEWHERE_BYTES = 1 << 20
_EXIT_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker is started and watched; see `PoolSettings` for the limits."""

    engine: str
    config: Message
    environment: dict[str, str]
    nice: int
    start_limit_seconds: float
    heartbeat_seconds: float
    heartbeat_limit_seconds: float
    faults: Mapping[str, float] = field(default_factory=dict)


class WorkerProcess:
    """A direct child. `lost` is set, and every call fails with `WorkerLost`, as soon as it is gone or given
    up.
    """

    def __init__(
        self,
        name: str,
        options: WorkerOptions,
        on_lost: Callable[[], None] = lambda: None,
        counts: DeviceCounts | None = None,
    ) -> None:
        self.name = name
        self.lost = asyncio.Event()
        self._options = options
        self._on_lost = on_lost
        self._counts = counts or DeviceCounts()
        self._calls = Calls()
        self._shelf = Shelf()
        self._hung = False
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def steps_answered(self) -> int:
        return self._calls.steps_answered

    @property
    def at_work(self) -> tuple[int, ...]:
        """The runs whose steps it computed when it was lost."""
        return self._calls.at_work

    @property
    def killed_from_outside(self) -> bool:
        """Whether SIGKILL ended it, and not from here. Known once it is reaped."""
        return not self._hung and self._process is not None and self._process.returncode == -signal.SIGKILL

    @property
    def buffers_away(self) -> int:
        """Buffers of fed rows that the worker has not read yet."""
        return self._shelf.away

    async def start(self) -> Message:
        """Returns when the worker's engine is there, with what it said about itself.

        Raises the engine's error, or `Unavailable` when the process did not come up in time. Nothing is left
        then.
        """
        ours, theirs = Channel.pair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(theirs),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **self._options.environment},
                )
            except BaseException:  # a cancellation too
                ours.close()
                raise
        self._channel = Channel(ours, self._on_message, self._lose)
        if self._process.stdout is not None:
            self._spawn(log_output(self._process.stdout, self.name, self.pid), "output")
        self._spawn(self._watch_exit(self._process), "exit")
        try:
            async with asyncio.timeout(self._options.start_limit_seconds):
                options = self._options
                answer = await self.call(
                    "hello", engine=options.engine, config=options.config, faults=options.faults
                )
        except TimeoutError:
            await self.end()
            raise Unavailable(f"the worker for {self.name} did not start in time") from None
        except BaseException:  # a cancellation too
            await self.end()
            raise
        self._spawn(self._watch_health(), "health")
        return answer.result

    def _command(self, theirs: socket.socket) -> list[str]:
        # -P: a file in the current folder must not stand in for a module. faulthandler: a segfault leaves a
        # traceback.
        return [
            *(sys.executable, "-P", "-X", "faulthandler", "-m", "upscaled_server.pool.worker"),
            *("--fd", str(theirs.fileno()), "--parent", str(os.getpid()), "--nice", str(self._options.nice)),
        ]

    async def call(self, op: str, **fields: Any) -> Answer:
        """`ask`, and wait for the answer. Cancelling gives the answer up, not the work.

        Raises what the worker raised, or `WorkerLost`.
        """
        return await (await self.ask(op, **fields))

    async def ask(
        self,
        op: str,
        *,
        pixels: NDArray[Any] | None = None,
        limit_seconds: float | None = None,
        shares: bool = False,
        **fields: Any,
    ) -> asyncio.Future[Answer]:
        """Ask the worker: returns when what is asked later comes later. The answer raises what the worker
        raised, or `WorkerLost`.

        `limit_seconds`, for steps: if no step is answered for that long, the worker hangs and is killed.
        `shares`: the step may be computed beside another one, see `inference.py`.
        `pixels` have been copied when this returns. Raises `WorkerLost`.
        """
        if self._channel is None or self.lost.is_set():
            raise self._loss()
        number = self._calls.new_number()
        message: Message = {"id": number, "op": op, **fields}
        fd = buffer = None
        if pixels is not None:
            parcel = await self._pack(pixels)
            message["pixels"], fd = parcel.described, parcel.fd
            buffer = parcel.described.get("buffer")
        answer = self._calls.add(number)
        try:
            self._channel.send(message, fd)
        except BaseException:  # an interrupt too
            self._calls.drop(number)
            if buffer is not None:
                self._shelf.take_back(buffer)
            raise
        if limit_seconds is not None:
            self._calls.sent_step(number, fields["run"], limit_seconds, shares=shares)
        return answer

    async def _pack(self, pixels: NDArray[Any]) -> Parcel:
        try:
            if pixels.nbytes < _COPY_ELSEWHERE_BYTES:
                return self._shelf.pack(pixels)
            packing = asyncio.get_running_loop().run_in_executor(None, self._shelf.pack, pixels)
            try:
                parcel = await asyncio.shield(packing)
            except asyncio.CancelledError:
                packing.add_done_callback(self._unpack_unsent)
                raise
        except ProcessingFailed:
            # The shelf is closed when the worker is lost, which is the news then.
            if self.lost.is_set():
                raise self._loss() from None
            raise
        if self.lost.is_set():
            raise self._loss()
        return parcel

    def _unpack_unsent(self, packing: asyncio.Future[Parcel]) -> None:
        if not packing.cancelled() and packing.exception() is None:
            self._shelf.take_back(packing.result().described.get("buffer", 0))

    async def end(self) -> None:
        """Ask it to exit, else kill it; returns when it is reaped and everything of it is closed."""
        process = self._process
        if process is None:
            return
        # A worker that was lost before is still news when its exit status comes.
        self._stopping = not self.lost.is_set()
        try:
            if not self.lost.is_set() and self._channel is not None:
                self._channel.send({"op": "exit"})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EXIT_GRACE_SECONDS):
                        await process.wait()
        finally:
            self.kill()
            # Shielded: who cancels this must not leave a zombie behind.
            await asyncio.shield(asyncio.gather(*self._tasks, return_exceptions=True))

    def kill(self) -> None:
        """SIGKILL, if it still runs. All calls fail at once."""
        self._end_process()
        self._lose()

    def _end_process(self) -> None:
        # Not `Process.kill`: it polls first, and would take the exit status from the one who waits for it.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def _lose(self) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        self._end_process()
        if self._channel is not None:
            self._channel.close()
        failed = self._calls.fail(self._loss)
        self._shelf.close()
        self._counts.lost_worker()
        if not self._stopping:
            log.warning("worker %s (pid %d) is lost; %d requests fail", self.name, self.pid, failed)
        self._on_lost()

    def _loss(self) -> WorkerLost:
        return WorkerLost(f"the worker for {self.name} ended in the middle of its work", device=self.name)

    def _on_message(self, message: Message, fd: int | None) -> None:
        if "free" in message:
            self._shelf.take_back(message["free"])
            return
        if "report" in message:
            self._counts.take(message["report"])
        answer = self._calls.take(message["id"])
        outcome: Answer | DomainError
        try:
            rows = unpack(message["pixels"], fd, self._freed) if "pixels" in message else None
            outcome = (
                unpack_error(message["error"]) if "error" in message else Answer(message["result"], rows)
            )
        except ProcessingFailed as error:
            outcome = error
        if answer is None:
            return
        if isinstance(outcome, Answer):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)

    def _freed(self, buffer: int) -> None:
        if self._channel is not None:
            self._channel.send_soon({"free": buffer})

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=f"worker {self.name}: {what}"))

    async def _watch_exit(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if not self._stopping:
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            log.error("worker %s (pid %d) ended with %s", self.name, process.pid, how)
        self._lose()

    async def _watch_health(self) -> None:
        """Kill a worker that does not answer, or whose step never ends."""
        first = True
        while not self.lost.is_set():
            with contextlib.suppress(TimeoutError):
                # The first at once: what it says of the worker's memory is not 0 until then.
                async with asyncio.timeout(0 if first else self._options.heartbeat_seconds):
                    await self.lost.wait()
                return
            first = False
            if stuck := self._calls.stuck_seconds:
                log.error("worker %s: a step has not ended for %.0f s; it is killed", self.name, stuck)
                self._hung = True
                self.kill()
                return
            try:
                async with asyncio.timeout(self._options.heartbeat_limit_seconds):
                    await self.call("ping")
            except TimeoutError:
                log.error("worker %s does not answer; it is killed", self.name)
                self._hung = True
                self.kill()
            except WorkerLost:
                return
