"""A codec child: one image from encoded bytes to rows, or the rows of one answer to a profile's space."""

from __future__ import annotations

import os
import socket
import struct
import traceback
from pathlib import Path

import numpy as np

from upscaled_server.errors import DamagedImage, DomainError, ProcessingFailed
from upscaled_server.media.codec import littlecms, pixels, refusals, sandbox, source, wire

_STRIP_BYTES = 1 << 20
_MAX_STRIP_ROWS = 512
_MIN_ALPHA_ROWS = 96
"""With alpha, each strip is looked at with its surroundings; in lower ones those would be most of it."""


def preload() -> None:
    """Everything a child needs, loaded in the zygote, once."""
    source.preload()
    pixels.preload()


def run(
    encoded: int, rows: int, limits: dict[str, float], conversion: wire.Conversion | None, parent: int
) -> int:
    """Serves one decode, or one conversion, on the descriptors given. Returns the exit status."""
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
                if conversion is None:
                    _decode(encoded, sock, limits)
                else:
                    _convert(encoded, sock, conversion, int(limits["memory_bytes"]))
            except DomainError as refusal:
                _send(sock, wire.ERROR, wire.pack_error(refusal))
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            return 0  # the reader has left, or has been idle too long
        except Exception as error:  # the server is told, and whoever asked gets an answer
            _send(sock, wire.ERROR, wire.pack_error(_our_fault(error)))
            return wire.EXIT_OUR_FAULT
    return 0


def _decode(encoded: int, sock: socket.socket, limits: dict[str, float]) -> None:
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
    if info.has_alpha:
        strip_rows = max(strip_rows, _MIN_ALPHA_ROWS)
    for top in range(0, info.height, strip_rows):
        with refusals.out_of_memory(memory_bytes):
            strip = image.rows(top, min(top + strip_rows, info.height))
        _send(sock, wire.ROWS, strip.reshape(-1).view(np.uint8).data)
    _send(sock, wire.END)


def _convert(encoded: int, sock: socket.socket, conversion: wire.Conversion, memory_bytes: int) -> None:
    """sRGB rows to the space of a profile, strip by strip, until the server closes."""
    with os.fdopen(encoded, "rb") as file:
        profile = file.read()
    dtype = np.dtype(np.uint8 if conversion.bits == 8 else np.uint16)
    row_shape = (conversion.width, conversion.channels + conversion.has_alpha)
    try:
        convert = littlecms.from_srgb(
            profile,
            b"GRAY" if conversion.channels == 1 else b"RGB ",
            bits=conversion.bits,
            has_alpha=conversion.has_alpha,
        )
    except littlecms.UnusableProfileError as error:
        raise DamagedImage(f"the colour profile is unusable: {error}") from error
    _send(sock, wire.DECODED)
    while (length := _frame_length(sock)) is not None:
        with refusals.out_of_memory(memory_bytes):
            buffer = bytearray(length)
            _receive(sock, memoryview(buffer))
            converted = convert(np.frombuffer(buffer, dtype).reshape(-1, *row_shape))
        _send(sock, wire.ROWS, converted.reshape(-1).view(np.uint8).data)


def _frame_length(sock: socket.socket) -> int | None:
    """Of the next ROWS frame; None where the server has closed instead."""
    head = bytearray(wire.FRAME.size)
    if not _receive(sock, memoryview(head)):
        return None
    return int(wire.FRAME.unpack(head)[1])


def _receive(sock: socket.socket, view: memoryview) -> bool:
    """Fills `view`. False if the other end has closed."""
    while view:
        got = sock.recv_into(view)
        if not got:
            return False
        view = view[got:]
    return True


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
