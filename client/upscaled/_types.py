"""Small values that the SDK's calls take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias, Union

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

    from upscaled._jobs import JobFacts
    from upscaled._results import Output, Result
    from upscaled._stored import Input


class NotGiven:
    """The type of `NOT_GIVEN`, which tells "the caller said nothing" from an explicit `None`."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()


@dataclass(frozen=True, slots=True)
class Url:
    """An image that the server fetches: an http(s) address, or an s3:// or gs:// object its operator
    allows.
    """

    url: str


# A Union, so that `ImageSource | None` works at run time too; its names in quotes are not imported then.
ImageSource: TypeAlias = Union[
    str,
    os.PathLike[str],
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
    Url,
    "PIL.Image.Image",
    "NDArray[Any]",
    "Input",
    "Output",
    "Result",
    "JobFacts",
]
"""Where an image comes from: a path, the bytes of a file, a binary file object, a picture of Pillow or NumPy,
a URL, an uploaded input, or an earlier result or job. A `str` is a path unless it begins with `https://`,
`http://`, `s3://` or `gs://`.
"""

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
