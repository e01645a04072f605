"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


class PartialFile:
    """Bytes on their way into a file: a hidden neighbour that takes the file's name when it is complete.

    Leaving the `with` without `publish()` removes it. Raises OSError as files do.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        # In the same folder, because a rename is one step only within one file system.
        self._part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        self.file: BinaryIO = self._part.open("xb")
        self._published = False

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        self.file.write(data)

    def restart(self) -> None:
        """Forgets what was written."""
        self.file.seek(0)
        self.file.truncate()

    def publish(self) -> Path:
        """Gives the complete file its name, replacing what had it."""
        self.file.close()
        os.replace(self._part, self._target)  # noqa: PTH105 - the pair of names is the point
        self._published = True
        return self._target

    def discard(self) -> None:
        """Removes an unpublished file; harmless otherwise."""
        if self._published:
            return
        with contextlib.suppress(OSError):
            self.file.close()
        self._part.unlink(missing_ok=True)
