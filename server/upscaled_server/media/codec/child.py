"""A codec child: one image from encoded bytes to rows."""

from __future__ import annotations

import os
import socket
import struct
import traceback
from pathlib import Path

import numpy as np

from upscaled_server.errors import DomainError, ProcessingFailed
from upscaled_server.media.codec import pixels, refusals, sandbox, source, wire

_STRIP_BYTES = 1 << 20
_MAX_STRIP_ROWS = 512


def preload() -> None:
    """Everything a child needs, loaded in the zygote, once."""
    source.preload()
    pixels.preload()


def run(encoded: int, rows: int, limits: dict[str, float], parent: int) -> int:
    """Serves one decode on the descriptors given. Returns the exit status."""
    _mute()
    sandbox.prefer_as_victim()
    sandbox.confine(
        memory_bytes=int(limits["memory_bytes"]), cpu_seconds=int(limits["cpu_seconds"]), parent=parent
    )
    with socket.socket(fileno=rows) as sock:
        sock.setblocking(True)
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(limits["idle_seconds"]), 0)
        )
        try:
            try:
                _serve(encoded, sock, limits)
            except DomainError as refusal:
                _send(sock, wire.ERROR, wire.pack_error(refusal))
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            return 0  # the reader has left, or has been idle too long
        except Exception as error:
            _send(sock, wire.ERROR, wire.pack_error(_our_fault(error)))
            return wire.EXIT_OUR_FAULT
    return 0


def _serve(encoded: int, sock: socket.socket, limits: dict[str, float]) -> None:
    memory_bytes = int(limits["memory_bytes"])
    with os.fdopen(encoded, "rb") as file:
        with refusals.translated(memory_bytes):
            image = source.open_image(file, int(limits["max_pixels"]))
        _send(sock, wire.HEADER, wire.pack_header(image.header))
        if sock.recv(1) != wire.GO:
            return
        with refusals.translated(memory_bytes):
            image.load()
    # The encoded bytes are free from here: the server has closed its descriptor of them.
    _send(sock, wire.DECODED)
    info = image.header.info
    strip_rows = max(1, min(_MAX_STRIP_ROWS, _STRIP_BYTES // info.row_bytes))
    for top in range(0, info.height, strip_rows):
        with refusals.out_of_memory(memory_bytes):
            strip = image.rows(top, min(top + strip_rows, info.height))
        _send(sock, wire.ROWS, strip.reshape(-1).view(np.uint8).data)
    _send(sock, wire.END)


def _send(sock: socket.socket, kind: bytes, payload: bytes | memoryview = b"") -> None:
    sock.sendall(wire.frame(kind, len(payload)))
    if len(payload):
        sock.sendall(payload)


def _mute() -> None:
    """Decoders print what they find in files; it must not reach the server's log."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _our_fault(error: Exception) -> ProcessingFailed:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return ProcessingFailed(f"decoder: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}")
