"""Places an image can come from besides the request itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Url:
    """An image elsewhere: `http(s)://`, or an allowed bucket's `s3://` or `gs://`."""

    # The query of a URL is often a credential; it must not reach a log by way of a representation.
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InputId:
    """An input that the caller uploaded."""

    id: str


@dataclass(frozen=True, slots=True)
class OutputId:
    """An earlier output of the caller."""

    id: str


SourceKind = Url | InputId | OutputId
