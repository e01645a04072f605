"""What a backend gives: a network in memory that turns a piece of an image into a piece of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from upscaled_server.tiling.cut import Piece

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""As `np.empty`: where results are written."""

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, which the reference applies to the results of grey images, before rounding."""


class LoadedNetwork(Protocol):
    """A network with its weights on a device.

    `infer` may be called from several threads at once, and does not hold the GIL while it computes.
    """

    backend: str
    precision: str
    scale: int

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        """Run the network over one piece.

        `source` is what the piece reads (`piece.down.first` to `.last`, `piece.across.first` to `.last`): (h,
        w, 3) RGB, uint8 or uint16, perhaps a view; it is padded here as the piece says. The wanted part of
        the result goes to `out`, (wanted height * scale, wanted width * scale, planes), uint8 or uint16,
        clipped and rounded half up; with one plane it is the luma of the clipped result (`LUMA`), rounded
        once. `threads` is how many threads this one piece may use.

        Raises `OutOfMemory` when the device has too little memory for the piece, `ProcessingFailed` for
        anything else.
        """
        ...

    def close(self) -> None:
        """Free the weights. Calling it twice is harmless; `infer` must not be running."""
        ...


Job = tuple[NDArray[Any], Piece, NDArray[Any]]
"""`source`, `piece` and `out`, as `LoadedNetwork.infer` takes them."""


@runtime_checkable
class Batching(Protocol):
    """A network that computes several pieces, of one image or of several, faster together than one by one."""

    def batch_key(
        self, piece: Piece, source_type: np.dtype[Any], out_type: np.dtype[Any], planes: int
    ) -> str | None:
        """Pieces with equal keys can be computed together; None: this one cannot."""
        ...

    def infer_together(self, jobs: Sequence[Job]) -> None:
        """`infer` for pieces with one key. While one group of them is computed, the next comes to the device
        and the results of the last leave it.

        Raises `OutOfMemory` when one of them alone is too large; then some may have been finished.
        """
        ...


@runtime_checkable
class OwnMemory(Protocol):
    """A network that fills some memory faster than other."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """As `np.empty`, for results."""
        ...


def full_scale(dtype: np.dtype[Any]) -> int:
    """The value that stands for 1.0: 255 or 65535."""
    return int(np.iinfo(dtype).max)


def pad_piece(source: NDArray[Any], piece: Piece) -> NDArray[Any]:
    """`source` with the padding its piece asks for at the right and the bottom; the array itself if there is
    none."""
    return pad_behind(pad_behind(source, 0, piece.down.pad), 1, piece.across.pad)


def pad_behind(pixels: NDArray[Any], axis: int, amount: int) -> NDArray[Any]:
    """(h, w, 3) with so many rows (axis 0) or columns (axis 1) more; the array itself for none.

    Reflected without the border pixel, as upstream pads to a multiple; where the image is too small to be
    reflected, the border pixel is repeated.
    """
    if not amount:
        return pixels
    mode: Literal["reflect", "edge"] = "reflect" if pixels.shape[axis] > amount else "edge"
    widths = [(0, 0), (0, 0), (0, 0)]
    widths[axis] = (0, amount)
    return np.pad(pixels, widths, mode=mode)
