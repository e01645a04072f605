"""Pictures of Pillow and NumPy as PNG files. Neither package is imported here before the caller did it."""

from __future__ import annotations

import io
import sys
from typing import Any, Final

from upscaled._errors import SourceError

_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def encode_picture(source: object) -> bytes | None:
    """The PNG file of an image of Pillow or an array of NumPy; `None` for anything else.

    Arrays are (height, width) grey or (height, width, channels) with 1 to 4 channels in the order of RGBA, of
    uint8; grey may be uint16. Of an image, pixels, profile and EXIF are kept. SourceError for what a PNG
    cannot hold.
    """
    pillow: Any = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(source, pillow.Image):
        return _png(source)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(source, numpy.ndarray):
        return _png(_image_of(source))
    return None


def _png(image: Any) -> bytes:
    if image.mode not in _PNG_MODES:
        raise SourceError(
            f"source: an image of mode {image.mode!r} cannot be sent; convert it, for example to 'RGB'"
        )
    exif = image.getexif()
    file = io.BytesIO()
    # Lossless at any level; the quickest costs the network a little and this side much less.
    image.save(file, "PNG", compress_level=1, **({"exif": exif.tobytes()} if exif else {}))
    return file.getvalue()


def _image_of(array: Any) -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise SourceError("source: sending an array needs Pillow: pip install 'upscaled[images]'") from None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels = array.shape[2] if array.ndim == 3 else 1
    kinds = ("uint8", "uint16") if array.ndim == 2 else ("uint8",)
    if array.ndim not in (2, 3) or channels > 4 or 0 in array.shape or array.dtype.name not in kinds:
        raise SourceError(
            "source: an array of (height, width) or (height, width, 1 to 4) of uint8 is expected (grey also "
            f"of uint16); got {array.shape} of {array.dtype}"
        )
    return Image.fromarray(array)
