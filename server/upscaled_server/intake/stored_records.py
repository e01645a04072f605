"""What is written down of a stored file, beside its bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from upscaled_server.state.expiry import Expiry
from upscaled_server.storage.partial import Fence


@dataclass(frozen=True, slots=True)
class StoredInput:
    """A file the caller brought, or is bringing. Times are seconds since 1970.

    `announced_bytes` (0: not announced) and `announced_sha256` are what it is to become; `size_bytes` and
    `sha256` what it is once `complete`. Where several servers may write it, `writer` counts the calls that
    did, the last of them goes on behind the first `base` bytes, and `kept` names the file that one of them
    made of it; otherwise these stay as they are.
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
    writer: int = 0
    base: int = 0
    kept: str = ""

    @property
    def expiry(self) -> Expiry:
        return Expiry(round(self.expires_at * 1000), "in", self.caller, self.id)

    @property
    def fence(self) -> Fence:
        return Fence(self.writer, self.base)

    @property
    def path(self) -> str:
        """Where the whole file is among the blobs."""
        return input_path(self.id, self.kept)


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """A file the server made, or is making: `width` and `height` in pixels, times in seconds since 1970.

    Each attempt at it has a name of its own: `writer` is the one that began last, and the only one that may
    still finish. Once it is `complete`, the rest is of the file that `kept` finished.
    """

    id: str
    caller: str
    created_at: float
    expires_at: float
    file_name: str
    content_type: str
    width: int
    height: int
    writer: str = ""
    complete: bool = False
    kept: str = ""
    size_bytes: int = 0
    sha256: bytes = b""

    @property
    def expiry(self) -> Expiry:
        return Expiry(round(self.expires_at * 1000), "out", self.caller, self.id)

    @property
    def path(self) -> str:
        """Where the whole file is among the blobs."""
        return output_path(self.id, self.kept)


StoredFile = StoredInput | StoredOutput


def input_key(input_id: str) -> str:
    return f"inputs/{input_id}"


def input_path(input_id: str, kept: str = "") -> str:
    """The one place of a server by itself, and the folder of all places that several servers have."""
    return f"inputs/{input_id}/{kept}" if kept else f"inputs/{input_id}"


def outputs_folder(output_id: str) -> str:
    """The folder of all attempts at one output."""
    return f"outputs/{output_id}"


def output_path(output_id: str, writer: str) -> str:
    return f"{outputs_folder(output_id)}/{writer}"


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
