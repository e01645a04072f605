"""TIFF files have the pixels they were given, whoever reads them, and leave as early as they can."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from tests.unit.media.conftest import LastFirstExecutor
from tests.unit.media.test_metadata_fitting import camera_exif

from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.info import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def opened(data: bytes) -> NDArray[np.generic]:
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


@pytest.mark.parametrize("compression", ["default", "small"])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_eight_bits_in_pillow(
    encode: Callable[..., bytes], picture: Callable[..., Any], planes: int, compression: str
) -> None:
    image = picture(700, 900, planes)
    assert np.array_equal(opened(encode("TIFF", image, compression=compression)), image)


@pytest.mark.parametrize("compression", ["default", "small"])
@pytest.mark.parametrize("planes", [1, 3, 4])
def test_sixteen_bits_in_opencv(
    encode: Callable[..., bytes], picture: Callable[..., Any], planes: int, compression: str
) -> None:
    cv2 = pytest.importorskip("cv2")
    image = picture(300, 500, planes, 16)
    data = np.frombuffer(encode("TIFF", image, compression=compression), np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    found = found.reshape(image.shape)[:, :, {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[planes]]
    assert np.array_equal(found, image)


def test_uncompressed_strips_leave_at_once_and_packed_ones_at_the_end(
    picture: Callable[..., Any], last_first: LastFirstExecutor
) -> None:
    image = picture(1000, 1400)
    shape: dict[str, Any] = {"width": 1000, "height": 1400, "channels": 3, "has_alpha": False, "bits": 8}
    for compression in ("default", "small"):
        options = EncodeOptions(compression=compression)  # type: ignore[arg-type]
        encoder = open_encoder("TIFF", options=options, metadata=Metadata(), executor=last_first, **shape)
        head = encoder.begin()
        futures = encoder.write(image[:1000])
        last_first.run()
        early = head + b"".join(future.result(0) for future in futures)
        assert (len(early) > 2_000_000) == (compression == "default")
        futures = encoder.write(image[1000:]) + encoder.finish()
        last_first.run()
        data = early + b"".join(future.result(0) for future in futures)
        assert np.array_equal(opened(data), image)


def test_packed_files_are_smaller(encode: Callable[..., bytes], picture: Callable[..., Any]) -> None:
    image = picture(900, 900)
    assert len(encode("TIFF", image, compression="small")) < 0.8 * len(encode("TIFF", image))


def test_a_lost_strip_leaves_no_file(picture: Callable[..., Any]) -> None:
    class Broken(LastFirstExecutor):
        def run(self) -> None:
            future, _ = self._tasks.pop()
            future.cancel()
            super().run()

    executor = Broken()
    options = EncodeOptions(compression="small")
    encoder = open_encoder(
        "TIFF", width=2000, height=400, channels=3, has_alpha=False, bits=8, options=options,
        metadata=Metadata(), executor=executor,
    )  # fmt: skip
    encoder.write(picture(2000, 400))
    pieces = encoder.finish()
    executor.run()
    assert all(piece.cancelled() for piece in pieces)


@pytest.mark.parametrize("compression", ["default", "small"])
def test_metadata_goes_where_tiff_has_it(
    encode: Callable[..., bytes], picture: Callable[..., Any], compression: str
) -> None:
    metadata = Metadata(
        icc=SRGB, exif=camera_exif(">"), xmp=b"<x/>", iptc=b"\x1c\x02\x05\0\x02Hi", dpi=(300, 150)
    )
    data = encode("TIFF", picture(60, 40), metadata=metadata, compression=compression)
    image: Any = Image.open(io.BytesIO(data))
    assert image.info["icc_profile"] == SRGB
    assert image.info["xmp"] == b"<x/>"
    assert image.info["dpi"] == (300, 150)
    assert image.tag_v2[33723] == metadata.iptc
    exif = image.getexif()
    assert (exif[0x010F], exif[0x0112]) == ("Camera", 1)
    assert exif.get_ifd(0x8769)[0xA002] == 60
    assert [float(part) for part in exif.get_ifd(0x8825)[2]] == [41, 22, 48]
