"""The codec process: loads Pillow and NumPy once, then forks a child for every image.

It never reads an image itself and has one thread, so that forking is safe and takes milliseconds. It
ends when its control socket closes, however the server went, and its children end with it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from upscaled_server.media.codec import child, wire
from upscaled_server.telemetry import log_lines


class Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # pid -> number
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        # The server ends us by closing the socket. Signals to its terminal or its whole control group
        # must not take the decoder from calls that the server means to finish.
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # What is loaded now stays: a collection in a child would only copy the pages it shares with us.
        gc.collect()
        gc.freeze()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        self._say({"ready": os.getpid()})
        try:
            while True:
                ready = dict(poll.poll())
                if self._wake_read in ready:
                    self._reap()
                if self._control.fileno() in ready and not self._obey():
                    return
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)
            for pid in self._children:
                os.waitpid(pid, 0)

    def _obey(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, wire.MAX_CONTROL_BYTES, 2)
        if not message:
            return False
        request = json.loads(message)
        if "spawn" in request:
            self._spawn(request, descriptors)
        elif "kill" in request:
            for pid, number in self._children.items():
                if number == request["kill"]:
                    os.kill(pid, signal.SIGKILL)
        return True

    def _spawn(self, request: dict[str, object], descriptors: list[int]) -> None:
        number = request["spawn"]
        limits = request["limits"]
        said = request.get("conversion")
        if not isinstance(number, int) or not isinstance(limits, dict):
            raise ValueError("malformed request")
        conversion = wire.Conversion(**said) if isinstance(said, dict) else None
        encoded, rows = descriptors
        try:
            parent = os.getpid()
            pid = os.fork()
        except OSError:
            self._say({"ended": number, "status": wire.EXIT_OUR_FAULT << 8})
        else:
            if pid == 0:
                self._become_child(encoded, rows, limits, conversion, parent)
            self._children[pid] = number
        finally:
            os.close(encoded)
            os.close(rows)

    def _become_child(
        self,
        encoded: int,
        rows: int,
        limits: dict[str, float],
        conversion: wire.Conversion | None,
        parent: int,
    ) -> NoReturn:
        """Never returns, and never runs the `finally` of the parent's frames."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            status = child.run(encoded, rows, limits, conversion, parent)
        except BaseException:  # a child must not return into this loop
            sys.excepthook(*sys.exc_info())
            status = wire.EXIT_OUR_FAULT
        os._exit(status)

    def _reap(self) -> None:
        while True:
            try:
                if not os.read(self._wake_read, 512):
                    break
            except BlockingIOError:
                break
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            # Of this process and of all children that have ended: what the server adds up.
            seconds = sum(os.times()[:4])
            self._say({"ended": self._children.pop(pid), "status": status, "cpu_seconds": seconds})

    def _say(self, message: dict[str, object]) -> None:
        self._control.send(json.dumps(message).encode())


def main() -> None:
    descriptor, log_format = sys.argv[1:]
    log_lines.to_stderr(as_json=log_format == "json", level=logging.INFO)
    child.preload()
    with socket.socket(fileno=int(descriptor)) as control:
        Zygote(control).serve()


if __name__ == "__main__":
    main()
