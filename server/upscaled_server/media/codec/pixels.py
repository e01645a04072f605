"""Each of Pillow's modes to rows of grey or RGB with or without alpha, strip by strip.

A strip is cropped from the image, converted and turned, so that no second copy of the whole image exists.

    1, L                       grey 8; with a transparent value, grey and alpha
    LA, La                     grey and alpha 8
    P, PA                      RGB 8, or grey if its palette is; with any transparency, alpha too
    RGB, RGBX, YCbCr, HSV      RGB 8; RGB with a transparent colour, RGBA
    RGBA, RGBa                 RGBA 8, straight alpha
    CMYK                       RGB 8; in sRGB, through the file's profile if it has a usable one
    LAB                        RGB 8 in sRGB
    I;16, I;16B, I;16L, I;16N  grey 16; with a transparent value, grey and alpha
    I                          grey 16 from PNM and PNG, where it holds 0..65535; else refused
    F                          refused: nothing says what range its values have

16-bit RGB(A), 16-bit grey with alpha and HEIF of 10 and 12 bits come through `deep.py`, with all their bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from upscaled_server.errors import DamagedImage, UnsupportedImage
from upscaled_server.media.codec import deep, littlecms, turning

Rows = NDArray[np.uint8] | NDArray[np.uint16]
_Convert = Callable[..., Rows]
"""The strips of each reading of the file (one, or for some two) to rows."""

_VIA_RGB = ("RGBX", "YCbCr", "HSV")
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}


def preload() -> None:
    deep.preload()
    ImageCms.createProfile("LAB")
    littlecms.load()


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """How the pixels of one image become rows. Made from the header; used once the image is loaded."""

    mode: str
    raw_size: tuple[int, int]
    orientation: int
    channels: int
    has_alpha: bool
    bits: int
    colour_space: bytes
    """What the rows hold, as a profile would name it; b"" if that has been settled as sRGB."""
    convert: _Convert
    readings: tuple[deep.Retune, ...] = ()
    """How the file is tuned for each of its readings; none where it is read once, as it is."""
    unpack: deep.Unpack | None = None
    """Decodes the file to two images, past Pillow."""
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        return turning.oriented_size(self.raw_size, self.orientation)

    @property
    def stored_bytes_per_pixel(self) -> int:
        images = 2 if self.unpack is not None else max(1, len(self.readings))
        return _STORED_BYTES.get(self.mode, 4) * images

    def check(self, image: Image.Image) -> None:
        """Raises DamagedImage if loading brought something else than the header had promised."""
        if image.size != self.raw_size or image.mode != self.mode:
            raise DamagedImage("the pixels do not agree with the header")

    def rows(self, images: Sequence[Image.Image], top: int, bottom: int) -> Rows:
        """Rows [top, bottom) after orientation: (bottom - top, width, channels + has_alpha), C-contiguous.

        `images` are the loaded ones, one for each reading.
        """
        box = turning.box(self.raw_size, self.orientation, top, bottom)
        rows = self.convert(*(image.crop(box) for image in images))
        return np.ascontiguousarray(turning.turn(rows, self.orientation))


def plan(image: Image.Image, orientation: int) -> PixelPlan:
    """Raises UnsupportedImage for modes that have no defined meaning as a picture."""
    found = deep.plan(image)
    remarks: list[str] = []
    if found is not None:
        channels, has_alpha, bits, convert = found.channels, found.has_alpha, 16, found.combine
    else:
        channels, has_alpha, bits, convert = _shape(image, remarks)
        if deep.is_reduced(image):
            remarks.append(f"the values of this {image.format} have more than 8 bits and are decoded with 8")
    return PixelPlan(
        mode=image.mode,
        raw_size=image.size,
        orientation=orientation,
        channels=channels,
        has_alpha=has_alpha,
        bits=bits,
        colour_space=b"" if image.mode in ("CMYK", "LAB") else {1: b"GRAY", 3: b"RGB "}[channels],
        convert=convert,
        readings=found.readings if found is not None else (),
        unpack=found.unpack if found is not None else None,
        remarks=tuple(remarks),
    )


def _shape(image: Image.Image, remarks: list[str]) -> tuple[int, bool, int, _Convert]:
    mode = image.mode
    key = image.info.get("transparency")
    if mode in ("1", "L"):
        if isinstance(key, int):
            return 1, True, 8, _keyed(_to("L"), _grey_key(image, key), 255)
        return 1, False, 8, _to("L")
    if mode in ("LA", "La"):
        return 1, True, 8, _to("LA")
    if mode in ("P", "PA"):
        has_alpha = image.has_transparency_data
        if _has_grey_palette(image):
            return 1, has_alpha, 8, _to("LA" if has_alpha else "L")
        return 3, has_alpha, 8, _to("RGBA" if has_alpha else "RGB")
    if mode == "RGB":
        if isinstance(key, tuple) and len(key) == 3:
            return 3, True, 8, _keyed(_to("RGB"), _rgb_key(key), 255)
        return 3, False, 8, _to("RGB")
    if mode in _VIA_RGB:
        return 3, False, 8, _to("RGB")
    if mode in ("RGBA", "RGBa"):
        return 3, True, 8, _to("RGBA")
    if mode == "CMYK":
        return 3, False, 8, _cmyk(image, remarks)
    if mode == "LAB":
        return 3, False, 8, _lab()
    if mode in _GREY_16 or (mode == "I" and image.format in ("PPM", "PNG")):
        if isinstance(key, int):
            return 1, True, 16, _keyed(_grey_16, (key,), 65535)
        return 1, False, 16, _grey_16
    if mode == "F":
        raise UnsupportedImage(
            "floating-point images are not supported: nothing says what range their values have"
        )
    if mode == "I":
        raise UnsupportedImage("images of signed or 32-bit integers are not supported")
    raise UnsupportedImage(f"images of mode {mode} are not supported")


def _has_grey_palette(image: Image.Image) -> bool:
    """Whether a palette that is in memory before the pixels are has only greys (a grey GIF always has
    one)."""
    palette = image.palette
    if palette is None or palette.mode != "RGB":
        return False
    raw_mode, data = palette.getdata()
    values = np.frombuffer(bytes(data), np.uint8)
    if raw_mode == "RGB;L":  # of TIFF: all reds, all greens, all blues
        colours = values[: values.size // 3 * 3].reshape(3, -1).T
    else:
        entry = {"RGB": 3, "BGR": 3, "BGRX": 4}.get(raw_mode or "")
        if entry is None:
            return False
        colours = values[: values.size // entry * entry].reshape(-1, entry)[:, :3]
    return bool(colours.size and (colours == colours[:, :1]).all())


def _to(mode: str) -> _Convert:
    def convert(strip: Image.Image) -> Rows:
        rows = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        return rows if rows.ndim == 3 else rows[:, :, np.newaxis]

    return convert


def _grey_16(strip: Image.Image) -> Rows:
    return np.asarray(strip).astype(np.uint16)[:, :, np.newaxis]


def _keyed(convert: _Convert, key: tuple[int, ...], opaque: int) -> _Convert:
    """Alpha 0 where a pixel equals `key`, else `opaque`."""

    def with_alpha(strip: Image.Image) -> Rows:
        rows = convert(strip)
        seen = (rows != np.array(key, rows.dtype)).any(axis=2, keepdims=True)
        return np.concatenate([rows, seen * rows.dtype.type(opaque)], axis=2)

    return with_alpha


def _grey_key(image: Image.Image, key: int) -> tuple[int]:
    """PNG gives the value at the file's depth; Pillow widens the pixels to 8 bits, not the key (1 bit it
    does)."""
    depth = {"L;2": 2, "L;4": 4}.get(_raw_mode(image))
    return (min(key, 255) if depth is None else min(key, 2**depth - 1) * 255 // (2**depth - 1),)


def _rgb_key(key: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(part & 0xFF for part in key)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0][3]
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _cmyk(image: Image.Image, remarks: list[str]) -> _Convert:
    """CMYK to sRGB through the file's own profile; as light that inks leave where there is no usable one."""
    profile = image.info.get("icc_profile")
    if not profile:
        remarks.append("CMYK without a profile: colours are approximate")
        return _to("RGB")
    try:
        transform = littlecms.to_srgb(profile, b"CMYK", bits=8, has_alpha=False)
    except littlecms.UnusableProfileError as error:
        remarks.append(f"the colour profile was ignored: {error}; CMYK colours are approximate")
        return _to("RGB")
    if transform is None:
        return _to("RGB")
    through = transform

    def convert(strip: Image.Image) -> Rows:
        return through(np.asarray(strip))

    return convert


def _lab() -> _Convert:
    """CIE L*a*b* with the white point D50, as TIFF has it, to sRGB."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")

    def convert(strip: Image.Image) -> Rows:
        return np.asarray(transform.apply(strip))

    return convert
