"""Bands on ncnn: one single-threaded net, called from as many threads as there are cores.

A segment's convolutions are called one by one, over panels of columns, instead of as a graph in which ncnn
joins and pads the rows by itself, copying each of them several times. See `panels.py` and `ncnn_segment.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.ncnn_binding import Call, load_net, new_mat, round_planes
from upscaled_server.engine.backends.ncnn_memory import pool
from upscaled_server.engine.bands.flow import Work
from upscaled_server.engine.bands.graph import Op, stream_graph
from upscaled_server.engine.bands.ncnn_graph import convolutions
from upscaled_server.engine.bands.ncnn_segment import Segment
from upscaled_server.engine.bands.network import Band, Carried
from upscaled_server.engine.bands.panels import Columns, Floats
from upscaled_server.engine.weights.ncnn.model import NcnnModel
from upscaled_server.errors import ProcessingFailed

_PANEL_COLUMNS = 128


class NcnnBands:
    """See `BandNetwork`."""

    precision = "fp32"

    def __init__(self, model: NcnnModel, architecture: Architecture) -> None:
        self.graph = stream_graph(architecture)
        param, self.blobs = convolutions(self.graph)
        self._net: Any = load_net(param, model.bin, 1)
        self.together = tuple(_read_together(segment) for segment in self.graph.segments)
        first = next(op for op in self.graph.ops if op.kind == "conv")
        self._trunk = first.name
        shuffled = {op.edges[0].blob for op in self.graph.ops if op.kind == "shuffle"}
        # Put together here, in planes; where ncnn interleaves even twelve channels, it does so by itself.
        unshuffled = {op.name for op in self.graph.ops if op.kind == "unshuffle"}
        self._planar = {self.graph.output, *shuffled, *unshuffled}
        self._pack = self._find_pack()

    def run(self, band: Band, work: Work, carried: Carried) -> None:
        if self._net is None:
            raise ProcessingFailed("the network has been unloaded")
        Segment(self, self._net, band, work, carried).run()

    def store(self, band: Band, out: NDArray[Any]) -> None:
        height, width, _ = out.shape
        round_planes(band.blobs[self.graph.output][:, :height, :width], out)

    def bytes_of(self, values: Iterable[Any]) -> int:
        return sum(
            value.nbytes if isinstance(value, np.ndarray) else sum(patch.values.nbytes for patch in value)
            for value in values
        )

    def close(self) -> None:
        """Free the weights. Calling it twice is harmless; `run` must not be running."""
        self._net = None

    def columns(self, blob: str, width: int) -> Columns:
        """The panels of a blob for an image of this width."""
        graph = self.graph
        return Columns.of_panels(
            graph.columns(blob, width), graph.columns(self._trunk, width), about=_PANEL_COLUMNS
        )

    def pack(self, blob: str) -> int:
        """How many channels of a blob are interleaved."""
        return 1 if blob in self._planar or self.graph.channels[blob] % self._pack else self._pack

    def memory(self, values: int) -> Floats:
        """Room for so many values, in any state; it goes back to the calling thread's pool by itself.

        Raises `OutOfMemory`.
        """
        return np.asarray(new_mat(values, allocator=pool()))

    def _find_pack(self) -> int:
        """How many channels ncnn interleaves on this processor: it is asked. 1, which it then converts, where
        that is not the same for all."""
        import ncnn

        found = set()
        for op in self.graph.ops:
            if op.kind == "conv" and op.name not in self._planar:
                source = ncnn.Mat(3, 3, sum(self.graph.channels[edge.blob] for edge in op.edges))
                source.fill(0.0)
                call = Call(self._net)
                call.give(self.blobs[op.name].source, source)
                found.add(call.take(self.blobs[op.name].result, packed=True).elempack)
        return found.pop() if len(found) == 1 else 1


def _read_together(ops: tuple[Op, ...]) -> tuple[str, ...]:
    """The blobs that a segment's convolutions read joined along channels, in their order: those of a dense
    block, each of which reads one more than the one before."""
    longest = max((op for op in ops if op.kind == "conv"), key=lambda op: len(op.edges), default=None)
    if longest is None or len(longest.edges) == 1:
        return ()
    return tuple(edge.blob for edge in longest.edges)
