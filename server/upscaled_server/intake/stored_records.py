"""What is written down of a stored file, beside its bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from upscaled_server.state.expiry import Expiry


@dataclass(frozen=True, slots=True)
class StoredInput:
    """A file the caller brought, or is bringing. Times are seconds since 1970.

    `announced_bytes` (0: not announced) and `announced_sha256` are what it is to become; `size_bytes` and
    `sha256` what it is once `complete`.
    """

    id: str
    caller: str
    created_at: float
    expires_at: float
    request_id: str = ""
    announced_bytes: int = 0
    announced_sha256: bytes = b""
    complete: bool = False
    size_bytes: int = 0
    sha256: bytes = b""

    @property
    def expiry(self) -> Expiry:
        return Expiry(round(self.expires_at * 1000), "in", self.caller, self.id)


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """A file the server made, or is making: `width` and `height` in pixels, times in seconds since 1970.

    `size_bytes` and `sha256` are those of the whole file once it is `complete`; before, it is nobody's
    business.
    """

    id: str
    caller: str
    created_at: float
    expires_at: float
    file_name: str
    content_type: str
    width: int
    height: int
    complete: bool = False
    size_bytes: int = 0
    sha256: bytes = b""

    @property
    def expiry(self) -> Expiry:
        return Expiry(round(self.expires_at * 1000), "out", self.caller, self.id)


StoredFile = StoredInput | StoredOutput

_HASHES = ("announced_sha256", "sha256")


def to_value(record: StoredFile) -> bytes:
    fields = asdict(record)
    return json.dumps(fields | {name: fields[name].hex() for name in _HASHES if name in fields}).encode()


def input_from(value: bytes) -> StoredInput:
    return StoredInput(**_fields(value))


def output_from(value: bytes) -> StoredOutput:
    return StoredOutput(**_fields(value))


def _fields(value: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(value)
    return fields | {name: bytes.fromhex(fields[name]) for name in _HASHES if name in fields}
