"""What a worker, or a library in it, writes."""

from __future__ import annotations

import asyncio
import logging

from upscaled_server.telemetry import log_lines

log = logging.getLogger("upscaled_server.pool")

_MAX_LINE = 1 << 16


async def log_output(output: asyncio.StreamReader, name: str, pid: int) -> None:
    """Every line goes to the log, until the end; longer ones in pieces. Records of the worker's own log stay
    what they are."""
    rest = b""
    while chunk := await output.read(_MAX_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= _MAX_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _log_line(line, name, pid)
    _log_line(rest, name, pid)


def _log_line(line: bytes, name: str, pid: int) -> None:
    if not line.strip():
        return
    text = line.decode(errors="replace").rstrip()
    if not log_lines.log_again(text, {"worker": name, "pid": str(pid)}):
        log.warning("worker %s (pid %d): %s", name, pid, text)
