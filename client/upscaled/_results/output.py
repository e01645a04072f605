"""One encoded file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from upscaled._times import when
from upscaled.v1 import result_pb2


@dataclass(frozen=True, slots=True)
class Output:
    """One encoded file. `data` is there if it was delivered inline, `path` if the SDK wrote it, `url` and
    `id` if the server stored it. `sha256` is the digest of the encoded file, 32 bytes.
    """

    id: str
    file_name: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    sha256: bytes = field(repr=False)
    url: str = ""
    url_expire_time: datetime | None = None
    expire_time: datetime | None = None
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    @classmethod
    def from_message(
        cls, message: result_pb2.Output, *, data: bytes | None = None, path: Path | None = None
    ) -> Output:
        return cls(
            id=message.id,
            file_name=message.file_name,
            content_type=message.content_type,
            width=message.width,
            height=message.height,
            size_bytes=message.size_bytes,
            sha256=message.sha256,
            url=message.url,
            url_expire_time=when(message, "url_expire_time"),
            expire_time=when(message, "expire_time"),
            data=data if data is not None else (message.data or None),
            path=path,
        )
