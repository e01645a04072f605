"""Values that were read or written lately, by version: what has one never changes."""

from __future__ import annotations

from collections import OrderedDict

_MAX_BYTES = 32 << 20
_ENTRY_BYTES = 200
"""About what one more value takes beside its bytes."""


class RecentValues:
    """At most 32 MiB; those used last."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[int, bytes] = OrderedDict()
        self.size_bytes = 0

    def get(self, version: int) -> bytes | None:
        value = self._values.get(version)
        if value is not None:
            self._values.move_to_end(version)
        return value

    def put(self, version: int, value: bytes) -> None:
        if version in self._values:
            return
        self._values[version] = value
        self.size_bytes += len(value) + _ENTRY_BYTES
        while self.size_bytes > self._max_bytes:
            _, oldest = self._values.popitem(last=False)
            self.size_bytes -= len(oldest) + _ENTRY_BYTES
