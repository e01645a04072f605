"""PNG files made of independent strips, read back by others."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from upscaled_server.media.encode import EncodeOptions, filters, open_encoder, png
from upscaled_server.media.encode.strips import StripCutter
from upscaled_server.media.info import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Every chunk, its checksum verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(body),)
        found.append((body[:4], body[4:]))
        at += 12 + length
    return found


def unpacked(data: bytes) -> bytes:
    """The pixel data as a strict zlib sees it: one stream, its checksum right, nothing behind it."""
    stream = zlib.decompressobj()
    raw = stream.decompress(b"".join(body for kind, body in chunks(data) if kind == b"IDAT"))
    assert stream.eof
    assert not stream.unused_data
    return raw


def read_back(data: bytes) -> Any:
    """Through OpenCV, which has libpng and keeps 16 bits; (height, width, planes) in RGB order."""
    cv2 = pytest.importorskip("cv2")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image.ndim == 2:
        return image[:, :, np.newaxis]
    return image[:, :, [2, 1, 0, 3][: image.shape[2]]]


@pytest.mark.parametrize("compression", ["fast", "default", "small"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_every_kind_of_pixel_comes_back_as_it_was(
    encode: Any, picture: Any, planes: int, bits: int, compression: str
) -> None:
    image = picture(333, 217, planes, bits)
    data = encode("PNG", image, compression=compression)
    unpacked(data)
    if planes == 2:  # OpenCV makes colour of grey with alpha; Pillow has no 16 bits for it
        expected = (image >> (bits - 8)).astype(np.uint8)
        decoded = Image.open(io.BytesIO(data))
        assert np.array_equal(np.asarray(decoded.convert("LA")), expected)
    else:
        assert np.array_equal(read_back(data), image)
    if bits == 8:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))).reshape(image.shape), image)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 70), st.integers(1, 4), st.integers(1, 80), st.integers(0, 2**32 - 1)
)
def test_any_size_cut_anyhow_comes_back(
    encode: Any, width: int, height: int, planes: int, cut: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, planes), np.uint8)
    data = encode("PNG", image, cut=cut)
    unpacked(data)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))).reshape(image.shape), image)


def test_many_strips_that_finish_out_of_order_are_one_valid_file(
    encode: Any, picture: Any, last_first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "_STRIP_BYTES", 4000)
    image = picture(200, 301)
    data = encode("PNG", image, executor=last_first)
    assert len([1 for kind, _ in chunks(data) if kind == b"IDAT"]) > 40
    unpacked(data)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_strips_get_lower_towards_the_end_wherever_the_rows_are_cut() -> None:
    def heights(portion: int) -> list[int]:
        cutter = StripCutter(10, 1000, 3, 8, strip_rows=100, last_rows=25)
        rows = np.zeros((1000, 10, 3), np.uint8)
        strips = [
            strip for top in range(0, 1000, portion) for strip in cutter.push(rows[top : top + portion])
        ]
        cutter.finish()
        return [len(strip) for strip in strips]

    whole = heights(1000)
    assert sum(whole) == 1000
    assert whole[:7] == [100] * 7
    assert whole == sorted(whole, reverse=True)
    assert whole[-2] == 25
    assert heights(1) == heights(33) == heights(333) == whole


def test_a_large_image_takes_many_strips_and_the_first_leave_before_the_last_row_comes(
    picture: Any, pool: ThreadPoolExecutor
) -> None:
    image = picture(1000, 1500)
    encoder = open_encoder(
        "PNG", width=1000, height=1500, channels=3, has_alpha=False, bits=8,
        options=EncodeOptions(), metadata=Metadata(), executor=pool,
    )  # fmt: skip
    data = encoder.begin()
    early = encoder.write(image[:1000])
    assert early
    data += b"".join(future.result(30) for future in early)
    late = encoder.write(image[1000:]) + encoder.finish()
    data += b"".join(future.result(30) for future in late)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_of_two_pieces_combine_to_that_of_both(first: bytes, second: bytes) -> None:
    combined = png.combined_adler32(zlib.adler32(first), zlib.adler32(second), len(second))
    assert combined == zlib.adler32(first + second)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 3, 4, 6, 8]), st.integers(0, 2**32 - 1))
def test_each_row_filter_can_be_undone_as_the_specification_says(
    rows: int, pixels: int, stride: int, seed: int
) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, (rows, pixels * stride), np.uint8)
    for kinds in ((0,), (1,), (2,), (3,), (4,), (0, 1, 2, 3, 4)):
        filtered = filters.filter_rows(raw, None, stride, kinds)
        assert set(filtered[:, 0]) <= set(kinds)
        assert unfilter(filtered, stride) == raw.tolist()


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_rows_filtered_together_have_one_filter_which_can_be_undone(
    rows: int, together: int, seed: int
) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, (rows, 15), np.uint8)
    filtered = filters.filter_rows(raw, None, 3, (1, 2, 3), together=together)
    for top in range(0, rows, together):
        assert len(set(filtered[top : top + together, 0])) == 1
    assert unfilter(filtered, 3) == raw.tolist()


def unfilter(filtered: np.ndarray[Any, Any], stride: int) -> list[list[int]]:
    """Straight from ISO/IEC 15948, 9.2, byte by byte."""
    above = [0] * (filtered.shape[1] - 1)
    out = []
    for kind, *line in filtered.tolist():
        row: list[int] = []
        for x, value in enumerate(line):
            a = row[x - stride] if x >= stride else 0
            b = above[x]
            c = above[x - stride] if x >= stride else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row.append((value + [0, a, b, (a + b) // 2, paeth][kind]) & 255)
        out.append(row)
        above = row
    return out


def test_metadata_is_written_upright(encode: Any, picture: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Camera"
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    metadata = Metadata(icc=SRGB, exif=exif.tobytes()[6:], xmp=xmp, dpi=(300, 150))
    data = encode("PNG", picture(9, 9), metadata=metadata)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.info["icc_profile"] == SRGB
    assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
    assert image.getexif()[0x0112] == 1
    assert image.getexif()[0x010F] == "Camera"
    assert b'tiff:Orientation="1"' in image.info["xmp"]
    kinds = [kind for kind, _ in chunks(data)]
    assert kinds.index(b"iCCP") < kinds.index(b"IDAT")
    assert b"sRGB" not in kinds


def test_without_a_profile_the_file_says_srgb_and_a_profile_of_another_space_is_left_out(
    encode: Any, picture: Any
) -> None:
    kinds = [kind for kind, _ in chunks(encode("PNG", picture(9, 9)))]
    assert b"sRGB" in kinds
    kinds = [kind for kind, _ in chunks(encode("PNG", picture(9, 9, 1), metadata=Metadata(icc=SRGB)))]
    assert b"iCCP" not in kinds


def test_missing_and_surplus_and_wrong_rows_are_refused(picture: Any, pool: Any) -> None:
    encoder = open_encoder(
        "PNG", width=10, height=10, channels=3, has_alpha=False, bits=8,
        options=EncodeOptions(), metadata=Metadata(), executor=pool,
    )  # fmt: skip
    with pytest.raises(ValueError, match="expected rows"):
        encoder.write(picture(10, 1, 4))
    with pytest.raises(ValueError, match="expected rows"):
        encoder.write(picture(10, 1, 3, bits=16))
    encoder.write(picture(10, 9))
    with pytest.raises(ValueError, match="missing"):
        encoder.finish()
    with pytest.raises(ValueError, match="only 1"):
        encoder.write(picture(10, 2))


def test_a_strip_that_fails_leaves_no_end_to_wait_for(picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(png, "_deflate", broken)
    with ThreadPoolExecutor(1) as executor:
        encoder = open_encoder(
            "PNG", width=10, height=10, channels=3, has_alpha=False, bits=8,
            options=EncodeOptions(), metadata=Metadata(), executor=executor,
        )  # fmt: skip
        (strip,) = encoder.write(picture(10, 10))
        (end,) = encoder.finish()
        with pytest.raises(MemoryError):
            strip.result(10)
        with pytest.raises(CancelledError):
            end.result(10)


def test_a_drawing_is_hardly_larger_than_pillow_makes_it(encode: Any) -> None:
    drawing = Image.new("RGB", (900, 700), (240, 240, 230))
    pen = ImageDraw.Draw(drawing)
    for index in range(40):
        left, top = index * 53 % 800, index * 97 % 600
        pen.ellipse((left, top, left + 90, top + 70), (index * 6, 255 - index * 5, 90), (0, 0, 0), 3)
    pixels = np.asarray(drawing)
    theirs = io.BytesIO()
    drawing.save(theirs, "PNG")
    data = encode("PNG", pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert len(data) < 1.25 * len(theirs.getvalue())
