"""JPEG files spliced of strips, against libjpeg's encoding of the whole image."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from upscaled_server.errors import InvalidField
from upscaled_server.media.encode import jpeg
from upscaled_server.media.info import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def decoded(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def whole(image: np.ndarray[Any, Any], **options: Any) -> np.ndarray[Any, Any]:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", **options)
    return decoded(buffer.getvalue())


SIZES = [(1, 1), (1, 700), (700, 1), (16, 16), (17, 129), (333, 417), (64, 1000)]


@pytest.mark.parametrize("quality", [35, 90, 100])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", SIZES)
def test_the_pixels_are_those_of_the_whole_image_encoded_at_once(
    encode: Any,
    picture: Any,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    subsampling: str,
    quality: int,
) -> None:
    monkeypatch.setattr(jpeg, "_STRIP_BYTES", 30_000)
    image = picture(*size)
    data = encode("JPEG", image, subsampling=subsampling, quality=quality, cut=13)
    assert np.array_equal(decoded(data), whole(image, subsampling=subsampling, quality=quality))


def test_grey_stays_grey(encode: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_STRIP_BYTES", 3000)
    image = picture(100, 217, 1)
    data = encode("JPEG", image)
    assert Image.open(io.BytesIO(data)).mode == "L"
    assert np.array_equal(decoded(data), whole(image, quality=90))


def test_many_strips_out_of_order_use_all_restart_markers_in_turn(
    encode: Any, picture: Any, last_first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg, "_STRIP_BYTES", 1)
    image = picture(48, 16 * 20)
    data = encode("JPEG", image, executor=last_first)
    scan = data[data.index(b"\xff\xda") :]
    restarts = [
        scan[at + 1] - 0xD0 for at in range(len(scan)) if scan[at] == 0xFF and 0xD0 <= scan[at + 1] <= 0xD7
    ]
    assert restarts == [index % 8 for index in range(19)]
    assert np.array_equal(decoded(data), whole(image, quality=90))


def test_other_decoders_read_it(encode: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(jpeg, "_STRIP_BYTES", 20_000)
    image = picture(321, 257)
    data = encode("JPEG", image, subsampling="4:4:4", quality=95)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(theirs.astype(int) - decoded(data)).max() <= 2


def test_the_widest_image_stays_within_the_restart_interval(encode: Any, picture: Any) -> None:
    image = picture(65500, 9)
    for subsampling in ("4:4:4", "4:2:0"):
        data = encode("JPEG", image, subsampling=subsampling)
        assert np.array_equal(decoded(data), whole(image, quality=90, subsampling=subsampling))


def test_transparency_is_refused_unless_it_may_be_put_over_white(encode: Any, picture: Any) -> None:
    image = picture(20, 20, 4)
    with pytest.raises(InvalidField, match="transparency"):
        encode("JPEG", image)
    image[:10, :, 3] = 0
    image[10:, :, 3] = 255
    over = image[:, :, :3].copy()
    over[:10] = 255
    data = encode("JPEG", image, flatten_alpha=True, quality=100)
    assert np.array_equal(decoded(data), whole(over, quality=100, subsampling="4:2:0"))


def test_half_transparent_lies_half_way_to_white() -> None:
    pixels = np.array([[[0, 100, 255, 128]]], np.uint8)
    assert jpeg.over_white(pixels).tolist() == [[[127, 177, 255]]]


def test_16_bits_are_rounded_to_8(encode: Any, picture: Any) -> None:
    image = picture(40, 40, 3, 16)
    rounded = np.round(image / 257).astype(np.uint8)
    assert np.array_equal(decoded(encode("JPEG", image)), whole(rounded, quality=90, subsampling="4:2:0"))


def test_metadata_is_written_upright(encode: Any, picture: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    metadata = Metadata(icc=SRGB, exif=exif.tobytes()[6:], xmp=b'<a tiff:Orientation="8"/>', dpi=(72, 72))
    image = Image.open(io.BytesIO(encode("JPEG", picture(9, 9), metadata=metadata)))
    assert image.info["icc_profile"] == SRGB
    assert image.getexif()[0x0112] == 1
    assert image.info["xmp"] == b'<a tiff:Orientation="1"/>'
    assert image.info["dpi"] == (72, 72)


def test_metadata_that_does_not_fit_a_segment_is_left_out(encode: Any, picture: Any) -> None:
    kept = b"\x01" * 70_000
    exif = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x010F, 7, len(kept), 26) + bytes(4) + kept
    metadata = Metadata(exif=exif, xmp=b" " * 70_000)
    image = Image.open(io.BytesIO(encode("JPEG", picture(9, 9), metadata=metadata)))
    assert "exif" not in image.info
    assert "xmp" not in image.info
