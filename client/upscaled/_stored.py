"""Files that the server keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Input:
    """An uploaded image; the source of any number of calls and jobs until `expire_time`. `sha256` is 32
    bytes."""

    id: str
    size_bytes: int
    sha256: bytes = field(repr=False)
    create_time: datetime | None = None
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """An address that serves one output without a key until `expire_time`."""

    url: str
    expire_time: datetime | None

    def __str__(self) -> str:
        return self.url
