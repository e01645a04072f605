"""What others write to stderr, libraries in C above all, as records of the log. grpc's core has lines of its
own form, and writes them of what strangers send too."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import TextIO

from upscaled_server.telemetry import log_lines

log = logging.getLogger("upscaled_server.stderr")

_MAX_LINE = 1 << 16
_END_SECONDS = 1.0


def gather() -> TextIO:
    """From here on, whatever this process and those it starts write to stderr is logged, line by line. Gives
    a stream to where stderr has led so far, for the log itself. Once in a process."""
    target = os.dup(2)
    ours, theirs = os.pipe()
    # Who writes may hold what the reader needs to go on: it must lose lines rather than wait.
    os.set_blocking(theirs, False)
    os.dup2(theirs, 2)
    os.close(theirs)
    reader = threading.Thread(target=_read, args=(ours,), name="stderr", daemon=True)
    reader.start()
    atexit.register(_give_back, target, reader)
    return os.fdopen(target, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _give_back(target: int, reader: threading.Thread) -> None:
    sys.stderr.flush()
    os.dup2(target, 2)  # closes the pipe, so that its reader comes to an end
    reader.join(_END_SECONDS)


def _read(pipe: int) -> None:
    rest = b""
    while chunk := os.read(pipe, _MAX_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= _MAX_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _log(line)
    _log(rest)
    os.close(pipe)


def _log(line: bytes) -> None:
    text = line.decode(errors="replace").rstrip()
    if not text:
        return
    if not log_lines.log_again(text, {}):
        log.warning("%s", text)
