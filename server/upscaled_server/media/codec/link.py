"""The server's end of the zygote: start it, ask it for children, learn how they ended, stop it."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from upscaled_server.errors import ProcessingFailed, Unavailable
from upscaled_server.media.codec import wire
from upscaled_server.telemetry import log_lines

# Nothing of the server's environment is the decoder's business: it may hold keys.
_ENVIRONMENT_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# One thread each: the zygote forks, and a child's threads would escape its processor time.
_ENVIRONMENT_SET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

LOST = None
"""How a child ended whose zygote is gone: nobody knows."""


class ZygoteLink:
    """One zygote process, from its start to its end. A link that is not `alive` is replaced by a new one."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._ended: dict[int, asyncio.Future[int | None]] = {}
        self._next_id = 0
        self._sending = asyncio.Lock()
        self.alive = True
        self.cpu_seconds = 0.0
        """Processor time of the process and of its children that have ended, as of the last end."""
        self._loop.add_reader(control.fileno(), self._on_control)

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, timeout_seconds: float) -> ZygoteLink:
        """Raises ProcessingFailed when the process does not report within `timeout_seconds`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
            process = subprocess.Popen(  # noqa: ASYNC220 - returns once the program runs
                [
                    *(sys.executable, "-P", "-m", "upscaled_server.media.codec.zygote"),
                    *(str(theirs.fileno()), log_lines.format_name()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=kept | _ENVIRONMENT_SET,
                # A Ctrl-C at the server's terminal is the server's to handle: running decodes may finish.
                start_new_session=True,
            )
        link = cls(process, ours)
        try:
            await asyncio.wait_for(asyncio.shield(link._ready), timeout_seconds)
        except (TimeoutError, Unavailable) as error:
            await link.aclose()
            raise ProcessingFailed("the codec process did not start") from error
        except BaseException:  # a cancellation too
            await link.aclose()
            raise
        return link

    async def spawn(
        self,
        encoded_fd: int,
        rows: socket.socket,
        limits: dict[str, float],
        conversion: dict[str, int] | None = None,
    ) -> tuple[int, asyncio.Future[int | None]]:
        """Asks for a child. Returns its number and the future of its wait status (`LOST` if the zygote dies).

        Raises Unavailable when the zygote is gone.
        """
        self._next_id += 1
        child = self._next_id
        ended = self._loop.create_future()
        self._ended[child] = ended
        request = json.dumps({"spawn": child, "limits": limits, "conversion": conversion}).encode()
        try:
            await self._send(request, [encoded_fd, rows.fileno()])
        except BaseException:  # a cancellation too
            self._ended.pop(child, None)
            raise
        return child, ended

    async def kill(self, child: int) -> None:
        """Ends a child now. Does nothing if it has ended, or if the zygote has and took it along."""
        if child in self._ended and self.alive:
            try:
                await self._send(json.dumps({"kill": child}).encode())
            except Unavailable:
                return

    async def aclose(self) -> None:
        """Closing the control socket ends the zygote, which ends its children first."""
        self._lost()
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def _send(self, message: bytes, descriptors: list[int] | None = None) -> None:
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        async with self._sending:
            while self.alive:
                try:
                    self._control.sendmsg([message], ancillary)
                    return
                except BlockingIOError:
                    await self._writable()
                except OSError:
                    self._lost()
        raise Unavailable("the codec process ended; the call can be tried again")

    async def _writable(self) -> None:
        writable = self._loop.create_future()
        self._loop.add_writer(self._control.fileno(), _set_once(writable))
        try:
            await writable
        finally:
            if self._control.fileno() >= 0:
                self._loop.remove_writer(self._control.fileno())

    def _on_control(self) -> None:
        while self.alive:
            try:
                message = self._control.recv(wire.MAX_CONTROL_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost()
                return
            said = json.loads(message)
            self.cpu_seconds = said.get("cpu_seconds", self.cpu_seconds)
            if "ended" in said:
                ended = self._ended.pop(said["ended"], None)
                if ended is not None and not ended.done():
                    ended.set_result(said["status"])
            elif "ready" in said and not self._ready.done():
                self._ready.set_result(None)

    def _lost(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._process.poll()
        if not self._ready.done():
            self._ready.set_exception(Unavailable("the codec process ended"))
            self._ready.exception()
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(LOST)
        self._ended.clear()


def _set_once(future: asyncio.Future[None]) -> Callable[[], None]:
    def set_result() -> None:
        if not future.done():
            future.set_result(None)

    return set_result
