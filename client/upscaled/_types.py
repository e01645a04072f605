"""Small values that the SDK's calls take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, TypeAlias


class NotGiven:
    """The type of `NOT_GIVEN`, which tells "the caller said nothing" from an explicit `None`."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""An encoded image: a path, its bytes, or a binary file object. A `str` is always a path, never a URL."""

TileEncodingName: TypeAlias = Literal["png", "jpeg", "webp", "raw_rgb", "raw_rgba"]


@dataclass(frozen=True, slots=True)
class Tiles:
    """Which tiles are sent while the image is made. A field that is `None` leaves the choice to the server.

    `size` is the side of a tile in output pixels (64 to 4096), `quality` that of lossy encodings (1 to 100).
    """

    size: int | None = None
    encoding: TileEncodingName | None = None
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class TLS:
    """How the connection is encrypted. Paths of PEM files, or the PEM bytes themselves.

    `ca` verifies the server (default: the system's roots); `cert` and `key` prove the client (mutual TLS).
    `server_name` is the name the server's certificate must carry when it is not the one in the target.
    """

    ca: str | os.PathLike[str] | bytes | None = None
    cert: str | os.PathLike[str] | bytes | None = None
    key: str | os.PathLike[str] | bytes | None = None
    server_name: str | None = None


TLSLike: TypeAlias = TLS | bool | str | os.PathLike[str] | None
"""`True`: the system's roots. A path: a PEM file of roots. `None` or `False`: no encryption."""
