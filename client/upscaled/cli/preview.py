"""`upscaled upscale --preview`: a picture that is written again and again while tiles arrive."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from upscaled import BrokenStreamError, Chunk, Client, Done, Options, Plan, Progress, Result, Tile, Tiles
from upscaled._files import PartialFile
from upscaled.mosaic import Mosaic

MAX_SIDE: Final = 2048
"""Longest side of a preview in pixels."""
_EVERY_SECONDS: Final = 1.0
_FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SUFFIXES: Final = tuple(_FORMATS)
_TILES: Final = Tiles(size=512, encoding="jpeg", quality=85)
_ALPHA_TILES: Final = Tiles(size=512, encoding="webp", quality=85)


class Preview:
    """Keeps one file up to date: whole at any moment, at most a second behind."""

    def __init__(self, path: Path, source: Path) -> None:
        """`path` ends in one of `SUFFIXES`."""
        self._path = path
        self.format = _FORMATS[path.suffix.lower()]
        self._source = source
        self._mosaic: Mosaic | None = None
        self._written = 0.0

    def begin(self, plan: Plan) -> None:
        self._mosaic = Mosaic.of(plan, max_side=MAX_SIDE, background=_background(self._source))
        self._write()

    def add(self, tile: Tile) -> None:
        if self._mosaic is None:
            return
        self._mosaic.add(tile)
        if self._mosaic.complete or time.monotonic() - self._written >= _EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        if self._mosaic is None:
            return
        image = self._mosaic.image()
        if self.format == "JPEG":
            image = image.convert("RGB")
        with PartialFile(self._path) as part:
            image.save(part.file, self.format)
            part.publish()
        self._written = time.monotonic()


def upscale_with_preview(
    client: Client,
    source: Path,
    output: Path,
    preview: Path,
    *,
    on_progress: Callable[[Plan | Progress], None],
    timeout: float | None,
    options: Options,
) -> Result:
    """As `client.upscale(source, output=output)`, with `preview` kept up to date meanwhile."""
    shown = Preview(preview, source)
    given: Any = options
    tiles = _TILES if shown.format == "JPEG" else _ALPHA_TILES
    events = client.upscale_stream(source, tiles=tiles, timeout=timeout, **given)
    with PartialFile(output) as part, events:
        for event in events:
            match event:
                case Plan():
                    shown.begin(event)
                    on_progress(event)
                case Progress():
                    on_progress(event)
                case Tile():
                    shown.add(event)
                case Chunk():
                    part.write(event.data)
                case Done():
                    part.publish()  # the stream has proven that the file is whole
                    return event.result
    raise BrokenStreamError("the events ended without the last one")


def _background(source: Path) -> Any:
    """The image itself, to be seen where no tile has come yet; None if Pillow cannot read it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as image:
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))
            image.thumbnail((MAX_SIDE, MAX_SIDE))
            return ImageOps.exif_transpose(image)
    except Exception:  # a preview is worth no failure; the server will say what is wrong with the image
        return None
