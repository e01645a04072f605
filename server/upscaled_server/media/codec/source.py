"""Pillow behind an explicit list of formats: from a file of unknown content to an image ready to be
loaded."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from typing import IO

import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile

from upscaled_server.errors import LimitExceeded, UnsupportedImage
from upscaled_server.media.codec import beside, bleed, colour, formats, pixels, structure
from upscaled_server.media.codec import described as described_colour
from upscaled_server.media.codec.wire import Header
from upscaled_server.media.info import ImageInfo

_PLUGINS = ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "Ppm", "Tiff", "WebP")
_PROCESS_BYTES = 8 << 20


def preload() -> None:
    colour.preload()
    formats.preload()
    structure.preload()
    for name in _PLUGINS:
        importlib.import_module(f"PIL.{name}ImagePlugin")
    # libdav1d would start threads, whose processor time and stacks are not the child's to give.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    ImageFile.LOAD_TRUNCATED_IMAGES = False


class SourceImage:
    """An image whose header has been read. `load` decodes it; then `rows` may be asked for."""

    def __init__(
        self,
        image: ImageFile.ImageFile,
        file: IO[bytes],
        header: Header,
        plan: pixels.PixelPlan,
        to_srgb: colour.Convert | None,
    ) -> None:
        self.header = header
        self._file = file
        self._opened: ImageFile.ImageFile | None = image
        self._loaded: list[Image.Image] = []
        self._plan = plan
        self._to_srgb = to_srgb

    def load(self) -> None:
        """Decodes the pixels and lets go of everything else the decoder held."""
        image, self._opened = self._opened, None
        if image is None:
            raise ValueError("loaded already")
        structure.check_pixels(self.header.info.format, self._file)
        if self._plan.unpack is not None:
            del image  # it holds the whole file
            self._loaded = list(self._plan.unpack(self._file))
            for part in self._loaded:
                self._plan.check(part)
            return
        if not self._plan.readings:
            self._loaded = [self._bare(image)]
            return
        for index, retune in enumerate(self._plan.readings):
            if index:
                self._file.seek(0)
                image = _open(self.header.info.format, self._file)
            retune(image)
            self._loaded.append(self._bare(image))

    def rows(self, top: int, bottom: int) -> pixels.Rows:
        """Rows [top, bottom) of the oriented image, in sRGB, C-contiguous.

        Under transparent pixels lies the colour of what is visible around them.
        """
        if not self.header.info.has_alpha:
            rows = self._plan.rows(self._loaded, top, bottom)
        else:
            first = max(0, top - bleed.REACH)
            last = min(self.header.info.height, bottom + bleed.REACH)
            extended = bleed.extend_colour(self._plan.rows(self._loaded, first, last))
            rows = np.ascontiguousarray(extended[top - first : bottom - first])
        return rows if self._to_srgb is None else self._to_srgb(rows)

    def _bare(self, image: ImageFile.ImageFile) -> Image.Image:
        image.load()
        # A bare image around the same pixels: the file object keeps canvases and copies of the file alive.
        bare = Image.Image._new(image, image.im)
        self._plan.check(bare)
        return bare


def open_image(file: IO[bytes], max_pixels: int) -> SourceImage:
    """Reads the header of `file` and checks the pixel count before anything is decoded.

    Raises NotAnImage, UnsupportedImage, DamagedImage, LimitExceeded, and whatever Pillow raises.
    """
    head = file.read(formats.HEAD_BYTES)
    name = formats.recognise(head)
    file.seek(0)
    check_pixels(formats.declared_size(name, head), max_pixels)
    structure.check(name, file)
    file.seek(0)
    # What a part of the file may declare besides its main size (a GIF frame, a TIFF tile).
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    image = _open(name, file)
    check_pixels(image.size, max_pixels)
    orientation, orientation_left = beside.orientation(name, image, file)
    plan = pixels.plan(image, orientation_left)
    width, height = plan.size
    found = beside.metadata(name, image)
    described = described_colour.Described()
    if found.icc is None and plan.colour_space:
        described = described_colour.profile(name, image, file, plan.colour_space)
    settled = colour.settle(
        found.icc or described.icc, plan.colour_space, bits=plan.bits, has_alpha=plan.has_alpha
    )
    # A profile that was made for the purpose and changes nothing is not added to the answer.
    icc = settled.icc if found.icc is not None or settled.to_srgb is not None else None
    info = ImageInfo(
        format=name,
        width=width,
        height=height,
        channels=plan.channels,
        has_alpha=plan.has_alpha,
        bits=plan.bits,
        frames=beside.frames(name, image),
        orientation=orientation,
        metadata=dataclasses.replace(found, icc=icc),
        is_converted=icc is not None and settled.to_srgb is not None,
        remarks=(*plan.remarks, *described.remarks, *settled.remarks),
    )
    count = width * height
    holding = count * plan.stored_bytes_per_pixel + _PROCESS_BYTES
    working = holding + count * formats.extra_bytes_per_pixel(name, image, orientation)
    return SourceImage(image, file, Header(info, working, holding), plan, settled.to_srgb)


def check_pixels(size: tuple[int, int] | None, max_pixels: int) -> None:
    if size is None:
        return
    width, height = size
    if width * height > max_pixels:
        raise LimitExceeded(
            "image",
            f"{width}x{height} is too many pixels",
            limit=max_pixels / 1e6,
            actual=width * height / 1e6,
            unit="megapixels",
        )


def _open(name: str, file: IO[bytes]) -> ImageFile.ImageFile:
    """The one plugin for `name`, called directly: `Image.open` would try others and hide why it failed."""
    factory, _ = Image.OPEN[name]
    image = factory(file, "")
    if not isinstance(image, ImageFile.ImageFile):
        raise UnsupportedImage(f"{name}: unexpected variant")
    return image
