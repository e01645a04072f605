"""Hears, through Linux's inotify, of every file that anybody opens or makes in given folders."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_IN_OPEN, _IN_CREATE, _IN_DELETE, _IN_MOVED = 0x20, 0x100, 0x200, 0xC0
_IN_ISDIR = 0x40000000
_HEAD = struct.Struct("iIII")


class OpenedFiles:
    """Files directly in `folders`; opening or listing the folders themselves does not count."""

    def __init__(self, folders: Iterable[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._queue < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._folders: dict[int, Path] = {}
        for folder in folders:
            mask = _IN_OPEN | _IN_CREATE | _IN_DELETE | _IN_MOVED
            watch = libc.inotify_add_watch(self._queue, os.fsencode(folder), mask)
            if watch < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", str(folder))
            self._folders[watch] = folder

    def __enter__(self) -> OpenedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._queue)

    def seen(self) -> set[Path]:
        """Since the last time this was asked."""
        found = set()
        while True:
            try:
                data = os.read(self._queue, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                watch, mask, _, length = _HEAD.unpack_from(data)
                name = data[_HEAD.size : _HEAD.size + length].rstrip(b"\0")
                data = data[_HEAD.size + length :]
                if name and not mask & _IN_ISDIR:
                    found.add(self._folders[watch] / os.fsdecode(name))
