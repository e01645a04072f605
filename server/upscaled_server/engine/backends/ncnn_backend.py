"""ncnn on the CPU: fp32 arithmetic with Winograd convolutions, several times as fast as torch eager."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.base import pad_piece
from upscaled_server.engine.backends.ncnn_binding import extract, load_net, new_mat, round_planes, to_mat
from upscaled_server.engine.weights.ncnn.model import NcnnModel
from upscaled_server.errors import ProcessingFailed
from upscaled_server.tiling.cut import Piece

if TYPE_CHECKING:
    from upscaled_server.engine.bands.ncnn_bands import NcnnBands

# Rows of the trunk's result that go through the tail at a time: the tail works at 2 and 4 times the size with
# 64 channels, and would need three times the memory of the trunk if it ran over the whole piece.
_TAIL_ROWS = 16

# The convolutions behind the trunk see one pixel each, at 2, 4, 4 and 4 times the size: 1.25 pixels of the
# trunk.
_TAIL_CONTEXT = 2


class NcnnNetwork:
    """See `LoadedNetwork`."""

    backend = "ncnn"
    precision = "fp32"

    def __init__(self, model: NcnnModel, *, scale: int, architecture: Architecture | None = None) -> None:
        """`architecture` is needed for `bands` only."""
        self.scale = scale
        self._architecture = architecture
        self._model: NcnnModel | None = model
        self._nets: dict[int, Any] = {}
        self._bands: NcnnBands | None = None
        self._lock = threading.Lock()

    def infer(self, source: NDArray[Any], piece: Piece, out: NDArray[Any], *, threads: int) -> None:
        net, model = self._net(threads)
        pixels = pad_piece(source, piece)
        image = to_mat(pixels)
        if model.trunk_end is None:
            result = extract(net, model.input, image, model.output)
            round_planes(_wanted(np.asarray(result), piece, self.scale), out)
            return
        features = extract(net, model.input, image, model.trunk_end)
        del image
        self._tail(net, model.trunk_end, model.output, features, piece, out)

    def load(self, threads: int) -> None:
        """Build the net for this number of threads now, so that no image pays for it."""
        self._net(threads)

    def bands(self) -> NcnnBands:
        """The same network for runs in bands, with weights of its own. Raises `ProcessingFailed`."""
        with self._lock:
            if self._model is None:
                raise ProcessingFailed("the network has been unloaded")
            if self._architecture is None:
                raise ProcessingFailed("this network has no run in bands")
            if self._bands is None:
                from upscaled_server.engine.bands.ncnn_bands import NcnnBands

                self._bands = NcnnBands(self._model, self._architecture)
            return self._bands

    def close(self) -> None:
        with self._lock:
            if self._bands is not None:
                self._bands.close()
            self._bands = None
            self._nets.clear()
            self._model = None

    def _tail(
        self, net: Any, trunk_end: str, output: str, features: Any, piece: Piece, out: NDArray[Any]
    ) -> None:
        """From the trunk's result to pixels, in strips: identical to the last bit with doing it at once."""
        trunk = np.asarray(features)
        channels, height, width = trunk.shape
        # `factor`: output pixels for a pixel of the trunk (4); `block`: input pixels for a pixel of the trunk
        # (1, or 2).
        factor = 4
        block = factor // self.scale
        left = piece.across.inside * self.scale
        right = left + piece.across.wanted * self.scale
        top = piece.down.inside * self.scale
        bottom = top + piece.down.wanted * self.scale
        first = piece.down.inside // block
        last = -(-(piece.down.inside + piece.down.wanted) // block)
        for start in range(first, last, _TAIL_ROWS):
            end = min(start + _TAIL_ROWS, last)
            above, below = max(0, start - _TAIL_CONTEXT), min(height, end + _TAIL_CONTEXT)
            strip = new_mat(width, below - above, channels)
            np.asarray(strip)[...] = trunk[:, above:below]
            result = np.asarray(extract(net, trunk_end, strip, output))
            begin, finish = max(top, start * factor), min(bottom, end * factor)
            rows = result[:, begin - above * factor : finish - above * factor, left:right]
            round_planes(rows, out[begin - top : finish - top])

    def _net(self, threads: int) -> tuple[Any, NcnnModel]:
        with self._lock:
            if self._model is None:
                raise ProcessingFailed("the network has been unloaded")
            net = self._nets.get(threads)
            if net is None:
                net = self._nets[threads] = load_net(self._model.param, self._model.bin, threads)
            return net, self._model


def _wanted(result: NDArray[Any], piece: Piece, scale: int) -> NDArray[Any]:
    top, left = piece.down.inside * scale, piece.across.inside * scale
    return result[:, top : top + piece.down.wanted * scale, left : left + piece.across.wanted * scale]
