"""A server of the command's own: a child process that never outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from upscaled._channel import API_KEY_VARIABLE, SERVER_VARIABLE
from upscaled._errors import ConnectError

ANNOUNCEMENT: Final = "upscaled listening on "
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_LOG_TAIL_CHARACTERS: Final = 1500


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """The address of a fresh server with its state in a temporary folder. Stopped however the end comes."""
    with tempfile.TemporaryDirectory(prefix="upscaled-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as log_file:
            process = _start(Path(folder), log_file)
        try:
            yield _address(process, log)
        finally:
            _stop(process)


def _start(folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    # The client's own variables mean nothing to the server. Keys are for those whom a server does not start
    # for.
    strange = (SERVER_VARIABLE, API_KEY_VARIABLE, "UPSCALED_API_KEYS_FILE")
    environment = {k: v for k, v in os.environ.items() if k not in strange}
    data = folder / "data"
    data.mkdir()
    environment["UPSCALED_DATA_DIR"] = os.fspath(data)
    # Loaded here: after the fork only what is async-signal-safe, or nearly, may run.
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(
        [sys.executable, "-m", "upscaled", "serve", "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        # Ctrl-C is for this process, which stops the server in order.
        start_new_session=True,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    if process.stdout is None:
        raise ConnectError("the server's output cannot be read")
    deadline = time.monotonic() + _START_SECONDS
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                break
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                raise ConnectError(f"the server that was started for this command ended at once{_tail(log)}")
            text += piece
            for line in text.decode(errors="replace").splitlines(keepends=True):
                if line.startswith(ANNOUNCEMENT) and line.endswith("\n"):
                    return line.removeprefix(ANNOUNCEMENT).strip()
    raise ConnectError(
        f"the server that was started for this command was not ready after {_START_SECONDS:.0f} s{_tail(log)}"
    )


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace").strip()[-_LOG_TAIL_CHARACTERS:]
    return f"; it said:\n{text}\n" if text else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
