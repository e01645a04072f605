"""What storing files needs to know of a caller."""

from __future__ import annotations

from typing import Protocol


class Owner(Protocol):
    """Whose files they are; `access.Caller` is one."""

    @property
    def name(self) -> str:
        """Part of keys in the store."""

    @property
    def max_stored_bytes(self) -> int:
        """0: no limit of its own."""
