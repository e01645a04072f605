"""What a decoder that is no longer itself says to the server, which is believed only in form; and the two
readings of a file's head that come before any decoder."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz import seeds as all_seeds
from upscaled_server.errors import DamagedImage, DomainError, ImageRejected, LimitExceeded
from upscaled_server.media.codec import formats, wire
from upscaled_server.media.info import ImageInfo, Metadata

_HEADER, _ERROR, _HEAD = range(3)


def seeds() -> Iterator[bytes]:
    info = ImageInfo("PNG", 30, 20, 3, True, 8, 1, 6, Metadata(icc=b"i" * 40, xmp=b"x", dpi=(72.0, 96.5)))
    yield bytes((_HEADER,)) + wire.pack_header(wire.Header(info, 1000, 500))
    yield bytes((_ERROR,)) + wire.pack_error(DamagedImage("broken"))
    yield bytes((_ERROR,)) + wire.pack_error(
        LimitExceeded("image", "too large", limit=1, actual="more", unit="megapixels")
    )
    for data in all_seeds.images():
        yield bytes((_HEAD,)) + data[: formats.HEAD_BYTES]


def one_input(data: bytes) -> None:
    kind, rest = (data[0] % 3, data[1:]) if data else (_HEAD, b"")
    if kind == _HEAD:
        try:
            name = formats.recognise(rest[: formats.HEAD_BYTES])
        except ImageRejected as refusal:
            assert refusal.message.isprintable()
            return
        size = formats.declared_size(name, rest[: formats.HEAD_BYTES])
        assert size is None or min(size) >= 0
        return
    try:
        if kind == _HEADER:
            header = wire.unpack_header(rest)
            assert 1 <= header.info.width <= wire.MAX_SIDE
            assert all(remark.isprintable() for remark in header.info.remarks)
        else:
            error = wire.unpack_error(rest)
            assert isinstance(error, DomainError)
            assert error.message.isprintable()
    except wire.ProtocolBrokenError:
        return
