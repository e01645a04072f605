"""The canvas that tiles are put on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from upscaled._results import Plan, Tile
from upscaled.mosaic._pixels import decoded

if TYPE_CHECKING:
    from PIL import Image

_ALPHA_CHANNELS: Final = (2, 4)
_EMPTY: Final = (128, 128, 128)


class Mosaic:
    """Puts tiles of one output in their places, in whatever order and however often they come.

    With `max_side` it keeps a smaller picture: no side is longer, and memory is bounded by it, whatever the
    size of the output. Otherwise it holds width * height * 3 bytes (4 with alpha). Not for concurrent use.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        has_alpha: bool = False,
        max_side: int | None = None,
        background: Image.Image | None = None,
    ) -> None:
        """`width` and `height` of the output in pixels. `background`, stretched, is shown where no tile has
        come yet; without one, these places are grey, or transparent with `has_alpha`.

        Raises ValueError for a size below 1, ModuleNotFoundError without Pillow.
        """
        if width < 1 or height < 1 or (max_side is not None and max_side < 1):
            raise ValueError(f"sizes are at least 1; got {width}x{height}, max_side {max_side}")
        from PIL import Image

        self.width, self.height = width, height
        longest = max(width, height)
        self._shrinking = 1.0 if max_side is None else max(1.0, longest / max_side)
        size = (self._across(width), self._across(height))
        mode = "RGBA" if has_alpha else "RGB"
        if background is not None:
            self._canvas = background.convert(mode).resize(size, Image.Resampling.BICUBIC)
        else:
            self._canvas = Image.new(mode, size, (0, 0, 0, 0) if has_alpha else _EMPTY)
        self._covered: dict[tuple[int, int], tuple[int, int]] = {}

    @classmethod
    def of(cls, plan: Plan, *, max_side: int | None = None, background: Image.Image | None = None) -> Mosaic:
        """The mosaic of an output from its plan, the first event of a stream."""
        return cls(
            plan.output_width,
            plan.output_height,
            has_alpha=plan.channels in _ALPHA_CHANNELS,
            max_side=max_side,
            background=background,
        )

    def add(self, tile: Tile) -> bool:
        """Puts a tile in its place. False if it was there already; then nothing changes.

        Raises ValueError for a tile that is not of this output or whose pixels are not what it says; the
        picture stays as it was.
        """
        right, bottom = tile.x + tile.width, tile.y + tile.height
        if not (0 <= tile.x < right <= self.width and 0 <= tile.y < bottom <= self.height):
            raise ValueError(
                f"tile {tile.sequence} at {tile.x},{tile.y} of {tile.width}x{tile.height} "
                f"is not within {self.width}x{self.height}"
            )
        if self._covered.get((tile.x, tile.y)) == (tile.width, tile.height):
            return False
        box = (self._edge(tile.x), self._edge(tile.y), self._edge(right), self._edge(bottom))
        pixels = decoded(tile)
        if pixels.mode != self._canvas.mode:
            pixels = pixels.convert(self._canvas.mode)
        size = (box[2] - box[0], box[3] - box[1])
        if min(size) > 0:
            self._canvas.paste(pixels if size == pixels.size else _shrunk(pixels, size), box)
        self._covered[tile.x, tile.y] = (tile.width, tile.height)
        return True

    @property
    def fraction(self) -> float:
        """Share of the output that tiles have come for, 0 to 1."""
        covered = sum(width * height for width, height in self._covered.values())
        return covered / (self.width * self.height)

    @property
    def complete(self) -> bool:
        return self.fraction >= 1

    def image(self) -> Image.Image:
        """The picture as it stands, a copy: 8 bits, RGB, or RGBA with alpha that is not premultiplied."""
        return self._canvas.copy()

    def _across(self, length: int) -> int:
        return max(1, self._edge(length))

    def _edge(self, position: int) -> int:
        """Where an edge of the output lies on the canvas. Neighbours share it, so no gap is left."""
        return round(position / self._shrinking)


def _shrunk(pixels: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return pixels.resize(size, Image.Resampling.BOX)
