"""What others make of our PNG files: Pillow, OpenCV, pngcheck and Chromium find the same pixels."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.benchmarks.png import BROWSERS, readers
from tests.conftest import REPO

from upscaled_server.media.encode import EncodeOptions, open_encoder
from upscaled_server.media.info import Metadata

VERDICTS = {
    "pillow": "same pixels",
    "opencv": "same pixels",
    "pngcheck": "valid",
    "chromium": "same pixels",
}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("cv2", reason="needs opencv-python, which the extra server brings")
    if shutil.which("pngcheck") is None:
        pytest.skip("needs pngcheck (apt-get install pngcheck)")
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("needs Chromium (apt-get install chromium)")


def encoded(pixels: NDArray[Any], compression: str, metadata: Metadata) -> bytes:
    height, width, planes = pixels.shape
    with ThreadPoolExecutor(2) as executor:
        encoder = open_encoder(
            "PNG", width=width, height=height, channels=3, has_alpha=planes == 4, bits=8,
            options=EncodeOptions(compression=compression), metadata=metadata,  # type: ignore[arg-type]
            executor=executor,
        )  # fmt: skip
        pieces = [encoder.begin()]
        futures = [future for top in range(0, height, 50) for future in encoder.write(pixels[top : top + 50])]
        futures += encoder.finish()
        return b"".join([*pieces, *(future.result() for future in futures)])


@pytest.mark.parametrize("compression", ["fast", "default", "small"])
def test_photographs_are_read_alike_by_all(shared_images: Path, compression: str) -> None:
    photo = Image.open(shared_images / "OST_009.png").convert("RGB")
    pixels = np.asarray(photo.resize((1400, 1000), Image.Resampling.LANCZOS))
    metadata = Metadata(exif=photo.getexif().tobytes(), dpi=(300.0, 300.0))
    assert readers(encoded(pixels, compression, metadata), pixels) == VERDICTS


def test_pictures_of_few_colours_are_too() -> None:
    """Their strips take another way through the encoder."""
    sample = np.asarray(Image.open(REPO / "docs" / "sample.png").convert("RGB"))
    flat = (sample // 128 * 255).astype(np.uint8)
    assert readers(encoded(flat, "default", Metadata()), flat) == VERDICTS
