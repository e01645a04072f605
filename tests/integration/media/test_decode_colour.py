"""Pixels arrive in sRGB whatever their profile, and go back into its space."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from upscaled_server.errors import DamagedImage
from upscaled_server.media.codec import CodecHost

pytestmark = pytest.mark.asyncio(loop_scope="module")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# The linear-light primaries of Adobe RGB (1998) and of sRGB, as XYZ relative to D65.
_ADOBE = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
_SRGB = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]])
_BRADFORD = np.array(
    [[1.04788, 0.02292, -0.05022], [0.02959, 0.99048, -0.01707], [-0.00925, 0.01508, 0.75168]]
)


def profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    """A display profile of version 2 from its tags (ICC.1:2001-04)."""
    table, heap = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags:
        table += name + struct.pack(">II", start + len(heap), len(body))
        heap += body.ljust(-(-len(body) // 4) * 4, b"\0")
    header = bytearray(128)
    struct.pack_into(
        ">I4sI4s4s4s", header, 0, start + len(heap), b"none", 0x02400000, b"mntr", space, b"XYZ "
    )
    header[36:40] = b"acsp"
    struct.pack_into(">3i", header, 68, 63190, 65536, 54061)
    return bytes(header) + struct.pack(">I", len(tags)) + table + heap


def _xyz(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def adobe_rgb() -> bytes:
    columns = (_BRADFORD @ _ADOBE).T
    curve = _gamma(2.19921875)
    return profile(
        b"RGB ",
        [
            (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 6) + b"wide\0\0" + bytes(78)),
            (b"wtpt", _xyz((0.9642, 1.0, 0.8249))),
            *zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, columns), strict=True),
            *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
        ],
    )


def grey_gamma(gamma: float) -> bytes:
    return profile(b"GRAY", [(b"wtpt", _xyz((0.9642, 1.0, 0.8249))), (b"kTRC", _gamma(gamma))])


def encode_srgb(linear: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def adobe_to_srgb(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    linear = values**2.19921875 @ (np.linalg.inv(_SRGB) @ _ADOBE).T
    return encode_srgb(linear)


def picture() -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:40, :60]
    return np.stack([60 + x * 3, 80 + y * 3, 200 - x - y], axis=2).astype(np.uint8)


def png(pixels: np.ndarray[Any, Any], icc: bytes | None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **({} if icc is None else {"icc_profile": icc}))
    return buffer.getvalue()


def deep_tiff(pixels: np.ndarray[Any, Any], icc: bytes) -> bytes:
    """Sixteen bits, little-endian, one strip."""
    height, width, planes = pixels.shape
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, planes, 0), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 0), (277, 3, 1, planes), (278, 4, 1, height), (279, 4, 1, pixels.nbytes),
        (34675, 7, len(icc), 0),
    ]  # fmt: skip
    bits_at = 8 + 2 + 12 * len(tags) + 4
    icc_at = bits_at + 2 * planes
    place = {258: bits_at, 34675: icc_at, 273: icc_at + len(icc)}
    directory = b"".join(struct.pack("<HHII", t, k, n, place.get(t, v)) for t, k, n, v in tags)
    start = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    bits = struct.pack(f"<{planes}H", *[16] * planes)
    return start + directory + bytes(4) + bits + icc + pixels.astype("<u2").tobytes()


async def test_a_wide_space_becomes_srgb(decode: Callable[..., Any]) -> None:
    info, rows = await decode(png(picture(), adobe_rgb()))
    assert (info.is_converted, info.metadata.icc) == (True, adobe_rgb())
    expected = adobe_to_srgb(picture() / 255) * 255
    assert np.abs(rows - expected).max() < 1.5
    assert np.abs(rows.astype(int) - picture()).max() > 20


async def test_sixteen_bits_are_converted_as_sixteen(decode: Callable[..., Any]) -> None:
    values = np.linspace(9000, 56000, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint16)
    info, rows = await decode(deep_tiff(values, adobe_rgb()))
    assert (info.bits, info.is_converted) == (16, True)
    assert (
        np.abs(rows - adobe_to_srgb(values / 65535) * 65535).max() < 40
    )  # of 65535; 257 are a step of 8 bits


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
async def test_the_way_back_ends_where_it_began(
    host: CodecHost, decode: Callable[..., Any], bits: int, alpha: bool
) -> None:
    pixels = (picture() // 4 + 90).astype(np.uint8)  # within sRGB
    if alpha:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 99, np.uint8)])
    _, rows = await decode(png(pixels, adobe_rgb()))
    rows = rows if bits == 8 else rows.astype(np.uint16) * 257
    async with host.converter(
        adobe_rgb(), width=60, height=40, channels=3, has_alpha=alpha, bits=bits
    ) as converter:
        back = await converter.convert(rows)
    assert back.shape == rows.shape
    assert np.abs(back / (257 if bits == 16 else 1) - pixels).max() <= 2


async def test_large_strips_go_through_in_pieces(host: CodecHost) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (2000, 1500, 3), np.uint8)
    shape = {"width": 1500, "height": 2000, "channels": 3, "has_alpha": False, "bits": 8}
    async with host.converter(adobe_rgb(), **shape) as converter:
        whole = await converter.convert(rows)
        assert np.array_equal(await converter.convert(rows[700:707]), whole[700:707])


async def test_a_profile_of_srgb_changes_nothing_and_is_kept(decode: Callable[..., Any]) -> None:
    info, rows = await decode(png(picture(), SRGB))
    assert (info.is_converted, info.metadata.icc, info.remarks) == (False, SRGB, ())
    assert np.array_equal(rows, picture())


async def test_grey_has_profiles_too(host: CodecHost, decode: Callable[..., Any]) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    info, rows = await decode(png(ramp, grey_gamma(1.0)))
    assert (info.channels, info.is_converted) == (1, True)
    assert np.abs(rows[0, :, 0] - encode_srgb(np.arange(256) / 255) * 255).max() < 1
    async with host.converter(
        grey_gamma(1.0), width=256, height=4, channels=1, has_alpha=False, bits=8
    ) as converter:
        back = await converter.convert(rows)
    assert np.abs(back[0, :, 0].astype(int) - np.arange(256)).max() <= 3  # light steps are merged by 8 bits


async def test_grey_pixels_with_a_profile_for_rgb_are_converted_for_good(decode: Callable[..., Any]) -> None:
    info, rows = await decode(png(picture()[:, :, 0], adobe_rgb()))
    assert (info.is_converted, info.metadata.icc) == (False, None)
    assert any("sRGB" in remark for remark in info.remarks)
    expected = adobe_to_srgb(np.repeat(picture()[:, :, :1], 3, axis=2) / 255)[..., 1] * 255
    assert np.abs(rows[..., 0] - expected).max() < 1.5


def printer() -> bytes:
    """A CMYK profile whose inks darken faster than plain arithmetic would have it (ICC.1, lut16Type)."""
    steps = 9
    axis = np.linspace(0, 1, steps)
    ink = np.stack(np.meshgrid(axis, axis, axis, axis, indexing="ij"), -1).reshape(-1, 4)
    linear = ((1 - ink[:, :3]) * (1 - ink[:, 3:])) ** 3
    xyz = linear @ (_BRADFORD @ _SRGB).T / (0.9642, 1.0, 0.8249)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    grid = np.clip(
        np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], 1), 0, 65535
    )
    straight = struct.pack(">2H", 0, 65535)
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    head = b"mft2\0\0\0\0" + struct.pack(">4B", 4, 3, steps, 0) + matrix + struct.pack(">2H", 2, 2)
    table = head + straight * 4 + grid.astype(">u2").tobytes() + straight * 3
    found = bytearray(profile(b"CMYK", [(b"wtpt", _xyz((0.9642, 1.0, 0.8249))), (b"A2B0", table)]))
    found[12:16], found[20:24] = b"prtr", b"Lab "
    return bytes(found)


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
async def test_cmyk_goes_through_its_profile(decode: Callable[..., Any], format_: str) -> None:
    y, x = np.mgrid[:40, :60]
    ink = np.stack([x * 3, y * 4, x + y, np.full_like(x, 20)], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    options = {"quality": 100, "subsampling": "4:4:4"} if format_ == "JPEG" else {}
    Image.fromarray(ink, "CMYK").save(buffer, format_, icc_profile=printer(), **options)
    info, rows = await decode(buffer.getvalue())
    assert (info.channels, info.is_converted, info.metadata.icc, info.remarks) == (3, False, None, ())
    share = 1 - ink / 255
    expected = encode_srgb((share[:, :, :3] * share[:, :, 3:]) ** 3) * 255
    assert np.abs(rows - expected).mean() < 3
    plain = np.asarray(Image.fromarray(ink, "CMYK").convert("RGB"), float)
    assert np.abs(plain - expected).mean() > 8


async def test_alpha_is_not_a_colour(decode: Callable[..., Any]) -> None:
    pixels = np.dstack([picture(), np.full((40, 60), 50, np.uint8)])
    _, rows = await decode(png(pixels, adobe_rgb()))
    assert (rows[:, :, 3] == 50).all()
    assert np.abs(rows[:, :, :3] - adobe_to_srgb(picture() / 255) * 255).max() < 1.5


DAMAGED = {
    "short": b"too short",
    "no signature": bytes(300),
    "tags beyond the end": adobe_rgb()[:200],
    "another space": grey_gamma(2.2),
    "noise behind a header": adobe_rgb()[:128] + bytes(range(256)) * 4,
}


@pytest.mark.parametrize("kind", DAMAGED)
async def test_an_unusable_profile_is_ignored_and_said_to_be(decode: Callable[..., Any], kind: str) -> None:
    info, rows = await decode(png(picture(), DAMAGED[kind]))
    assert (info.is_converted, info.metadata.icc) == (False, None)
    assert len(info.remarks) == 1
    assert info.remarks[0].startswith("the colour profile was ignored")
    assert np.array_equal(rows, picture())


async def test_a_converter_refuses_what_is_no_profile(host: CodecHost) -> None:
    with pytest.raises(DamagedImage, match="profile"):
        async with host.converter(b"nothing", width=9, height=9, channels=3, has_alpha=False, bits=8):
            pass


async def test_every_flipped_byte_of_a_profile_is_survived(decode: Callable[..., Any]) -> None:
    whole = adobe_rgb()
    for at in range(0, len(whole), 7):
        hostile = bytearray(whole)
        hostile[at] ^= 0xFF
        info, rows = await decode(png(picture()[:4, :4], bytes(hostile)))
        assert rows.shape == (4, 4, 3)
        assert info.width == 4
