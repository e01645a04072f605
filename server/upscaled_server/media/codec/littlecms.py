"""Colour profiles through Little CMS: the copy that Pillow carries, called directly.

Pillow's own interface knows 8 bits per value only; the library takes 16. Its C interface has not changed
since version 2.0 (lcms2.h). For codec processes only: profiles come from files of strangers.

Conversions are relative colorimetric with black point compensation, which changes nothing between
profiles of the matrix kind (those of cameras and screens) and keeps the shadows of printing profiles.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]

Point = tuple[float, float]
"""A chromaticity, x and y of CIE 1931."""

_SPACE_GREY, _SPACE_RGB, _SPACE_CMYK = 3, 4, 6  # PT_GRAY, PT_RGB, PT_CMYK
_SIGNATURES = {b"GRAY": _SPACE_GREY, b"RGB ": _SPACE_RGB, b"CMYK": _SPACE_CMYK}
_CHANNELS = {_SPACE_GREY: 1, _SPACE_RGB: 3, _SPACE_CMYK: 4}
_RELATIVE_COLORIMETRIC = 1
_NO_CACHE = 0x0040
_NO_OPTIMISATION = 0x0100
_BLACK_POINT_COMPENSATION = 0x2000
_COPY_ALPHA = 0x04000000
# The transfer curve of sRGB (IEC 61966-2-1) as a parametric curve of type 4.
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_SAME_WITHIN = 1.25 / 255
"""Profiles that differ less from sRGB are sRGB: makers round its curve and its primaries differently."""


class UnusableProfileError(Exception):
    """Bytes that the library does not take as a profile of the space asked for."""


def load() -> None:
    """Raises OSError where the library cannot be found."""
    _library()


class Transform:
    """Rows of one space to rows of another, with the same number of bits; alpha is carried over."""

    def __init__(self, source: _Profile, target: _Profile, bits: int, has_alpha: bool) -> None:
        """Raises UnusableProfileError where the two cannot be joined."""
        self._out_planes = _CHANNELS[target.space] + has_alpha
        flags = _NO_CACHE | _BLACK_POINT_COMPENSATION
        if bits == 16 or source.space == _SPACE_GREY:
            # The library would resample these conversions to a coarse grid: in the shadows, 16 bits would
            # be off by thousands and 8-bit grey by ten.
            flags |= _NO_OPTIMISATION
        self._handle = _library().cmsCreateTransform(
            source.handle,
            _layout(source.space, bits, has_alpha),
            target.handle,
            _layout(target.space, bits, has_alpha),
            _RELATIVE_COLORIMETRIC,
            flags | (_COPY_ALPHA if has_alpha else 0),
        )
        if not self._handle:
            raise UnusableProfileError("no conversion to sRGB can be made of it")

    def __call__(self, rows: Rows) -> Rows:
        """(n, width, planes) of the source space to a new array of the target's."""
        rows = np.ascontiguousarray(rows)
        out = np.empty((*rows.shape[:2], self._out_planes), rows.dtype)
        _library().cmsDoTransform(
            self._handle, rows.ctypes.data, out.ctypes.data, out.shape[0] * out.shape[1]
        )
        return out


def to_srgb(profile: bytes, space: bytes, *, bits: int, has_alpha: bool) -> Transform | None:
    """Rows in `profile` to sRGB, grey to grey and CMYK to RGB. None if the profile is sRGB itself.

    `space` is what the pixels are: b"RGB ", b"GRAY" or b"CMYK". Raises UnusableProfileError.
    """
    source = _opened(profile, space)
    target = _srgb(_SPACE_GREY if source.space == _SPACE_GREY else _SPACE_RGB)
    if source.space != _SPACE_CMYK and _is_same(source, target):
        return None
    return Transform(source, target, bits, has_alpha)


def from_srgb(profile: bytes, space: bytes, *, bits: int, has_alpha: bool) -> Transform:
    """The way back. Raises UnusableProfileError, also for profiles that can only be converted from."""
    target = _opened(profile, space)
    return Transform(_srgb(target.space), target, bits, has_alpha)


def made(space: bytes, curve: float | None, white: Point, primaries: tuple[Point, Point, Point]) -> bytes:
    """A profile for pixels of `space` (b"RGB " or b"GRAY") whose values, to the power `curve`, are light.

    None stands for the curve of sRGB. Raises UnusableProfileError for points that no colours lie between.
    """
    library = _library()
    made_curve = _srgb_curve() if curve is None else library.cmsBuildGamma(None, curve)
    if space == b"GRAY":
        handle = library.cmsCreateGrayProfile(library.cmsD50_xyY(), made_curve)
    else:
        handle = library.cmsCreateRGBProfile(
            (ctypes.c_double * 3)(*white, 1.0),
            (ctypes.c_double * 9)(*(value for point in primaries for value in (*point, 1.0))),
            (ctypes.c_void_p * 3)(made_curve, made_curve, made_curve),
        )
    size = ctypes.c_uint32()
    if not handle or not library.cmsSaveProfileToMem(handle, None, ctypes.byref(size)):
        raise UnusableProfileError("no profile can be made of it")
    buffer = ctypes.create_string_buffer(size.value)
    library.cmsSaveProfileToMem(handle, buffer, ctypes.byref(size))
    return buffer.raw


class _Profile:
    """An open profile. Open until the process ends, which is soon."""

    def __init__(self, handle: int, space: int) -> None:
        self.handle = handle
        self.space = space


def _opened(profile: bytes, space: bytes) -> _Profile:
    if profile[36:40] != b"acsp" or len(profile) < 128:
        raise UnusableProfileError("it is not an ICC profile")
    found = profile[16:20]
    if found != space:
        said = found.decode("ascii", "replace").strip()
        raise UnusableProfileError(
            f"it is for {said or 'other'} pixels, the image has {space.decode().strip()}"
        )
    handle = _library().cmsOpenProfileFromMem(profile, len(profile))
    if not handle:
        raise UnusableProfileError("it is damaged")
    return _Profile(handle, _SIGNATURES[space])


@functools.cache
def _srgb(space: int) -> _Profile:
    library = _library()
    if space == _SPACE_RGB:
        return _Profile(library.cmsCreate_sRGBProfile(), space)
    return _Profile(library.cmsCreateGrayProfile(library.cmsD50_xyY(), _srgb_curve()), space)


@functools.cache
def _srgb_curve() -> Any:
    return _library().cmsBuildParametricToneCurve(None, 4, (ctypes.c_double * 5)(*_SRGB_CURVE))


def _is_same(source: _Profile, target: _Profile) -> bool:
    """Whether the conversion moves no colour by more than what two makers of sRGB differ by."""
    if source.space == _SPACE_GREY:
        probe = np.arange(256, dtype=np.uint16).reshape(1, -1, 1) * np.uint16(257)
    else:
        steps = np.linspace(0, 65535, 18).astype(np.uint16)
        probe = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
    converted = Transform(source, target, 16, False)(probe)
    moved = np.abs(converted.astype(np.int32) - probe.astype(np.int32)).max()
    return bool(moved <= _SAME_WITHIN * 65535)


def _layout(space: int, bits: int, has_alpha: bool) -> int:
    """The library's number for rows of this shape (the macros COLORSPACE_SH, EXTRA_SH, ... of lcms2.h)."""
    return space << 16 | has_alpha << 7 | _CHANNELS[space] << 3 | bits // 8


@functools.cache
def _library() -> ctypes.CDLL:
    from PIL import _imagingcms  # noqa: F401 - loading it maps the library

    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if "lcms2" in path.rpartition("/")[2]:
            break
    else:
        raise OSError("Pillow has been built without Little CMS, or with it linked in")
    library = ctypes.CDLL(path)
    pointer, whole = ctypes.c_void_p, ctypes.c_uint32
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "cmsOpenProfileFromMem": (pointer, [ctypes.c_char_p, whole]),
        "cmsCreate_sRGBProfile": (pointer, []),
        "cmsD50_xyY": (pointer, []),
        "cmsBuildParametricToneCurve": (pointer, [pointer, ctypes.c_int32, pointer]),
        "cmsBuildGamma": (pointer, [pointer, ctypes.c_double]),
        "cmsCreateGrayProfile": (pointer, [pointer, pointer]),
        "cmsCreateRGBProfile": (pointer, [pointer, pointer, pointer]),
        "cmsSaveProfileToMem": (ctypes.c_int, [pointer, pointer, pointer]),
        "cmsCreateTransform": (pointer, [pointer, whole, pointer, whole, whole, whole]),
        "cmsDoTransform": (None, [pointer, pointer, pointer, whole]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
