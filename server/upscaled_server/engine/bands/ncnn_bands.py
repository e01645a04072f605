"""Bands on ncnn: one single-threaded net, run segment by segment from as many threads as there are cores.

Carried rows stay as ncnn packed them (several channels interleaved), so that they need no conversion; they
are copied out of ncnn's pool, which would give a large block for a few rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.backends.base import full_scale
from upscaled_server.engine.backends.ncnn_binding import Call, load_net, round_planes
from upscaled_server.engine.bands.flow import Work
from upscaled_server.engine.bands.graph import stream_graph
from upscaled_server.engine.bands.ncnn_graph import band_graph
from upscaled_server.engine.bands.network import Band, Carried
from upscaled_server.engine.weights.ncnn.model import NcnnModel
from upscaled_server.errors import ProcessingFailed

# Of a block of the pool, to be given.
_WANTED_SHARE = 0.5


class NcnnBands:
    """See `BandNetwork`."""

    def __init__(self, model: NcnnModel, architecture: Architecture) -> None:
        self.graph = stream_graph(architecture)
        written = band_graph(self.graph)
        self._segments = written.segments
        self._net: Any = load_net(written.param, model.bin, 1)
        # ncnn's own pool gives large blocks for small rows, and so must have more of them; this one gives a
        # block only where half of it is wanted. It lives as long as this object: rows may outlive the net.
        self._allocator = _pool()
        self._packing = self._find_packing()

    def run(self, band: Band, work: Work, carried: Carried) -> None:
        graph, blobs = self.graph, self._segments[work.segment]
        call = Call(self._require_net(), self._allocator)
        for blob, join in work.joins.items():
            site = blobs.sites[blob]
            columns, channels = graph.columns(blob, band.width), graph.channels[blob]
            held = carried.get((work.segment, blob))
            call.give(site.held, self._zeros(columns, join.held, channels) if held is None else held)
            if site.below is not None:
                call.give(site.below, self._zeros(columns, join.below, channels))
            if site.from_outside:
                new = band.blobs[blob] if join.new else self._zeros(columns, 0, channels)
                call.give(site.new, new)
            offset = join.held + join.new - join.kept
            call.give(site.kept_part, _part(columns, offset, join.kept, channels))
        for reader, (offset, rows) in work.parts.items():
            blob = graph.blob_of[reader]
            part = _part(graph.columns(blob, band.width), offset, rows, graph.channels[blob])
            call.give(blobs.parts[reader], part)
        for reader, (start, end) in work.image_rows.items():
            call.give(blobs.images[reader], _image(*band.image_rows(start, end)))
        if work.runs:
            for blob, number in blobs.inputs.items():
                call.give(number, band.blobs[blob])
        # Carried rows first, in the order of the operations: ncnn computes what is asked for, and frees every
        # blob when the last of what reads it has been computed.
        kept = {
            blob: call.take(blobs.sites[blob].kept, packed=True).clone()
            for blob, join in work.joins.items()
            if join.kept
        }
        yielded: dict[str, Any] = {}
        if work.runs:
            for blob, number in blobs.yields.items():
                yielded[blob] = call.take(number, packed=blob != graph.output)
        for blob in work.joins:
            carried.pop((work.segment, blob), None)
        carried.update(((work.segment, blob), rows) for blob, rows in kept.items())
        for blob in [blob for blob in band.blobs if graph.last_read_in[blob] <= work.segment]:
            del band.blobs[blob]
        band.blobs.update(yielded)

    def store(self, band: Band, out: NDArray[Any]) -> None:
        planes = np.asarray(band.blobs[self.graph.output])
        height, width, _ = out.shape
        round_planes(planes[:, :height, :width], out)

    def bytes_of(self, values: Iterable[Any]) -> int:
        return sum(mat.cstep * mat.c * mat.elemsize for mat in values)

    def close(self) -> None:
        """Free the weights. Calling it twice is harmless; `run` must not be running."""
        self._net = None

    def _require_net(self) -> Any:
        if self._net is None:
            raise ProcessingFailed("the network has been unloaded")
        return self._net

    def _zeros(self, columns: int, rows: int, channels: int) -> Any:
        """Rows of zeros. None at all must come packed, since ncnn cannot convert what is empty."""
        import ncnn

        if rows:
            zeros = ncnn.Mat(columns, rows, channels)
            zeros.fill(0.0)
            return zeros
        packed = self._packing[channels]
        return ncnn.Mat(columns, 0, channels // packed, elemsize=4 * packed, elempack=packed)

    def _find_packing(self) -> dict[int, int]:
        """How many channels ncnn interleaves on this processor, by the number of channels: it is asked."""
        packing: dict[int, int] = {}
        for sites, blobs in zip(self.graph.sites, self._segments, strict=True):
            for site in sites:
                channels = self.graph.channels[site.blob]
                if channels in packing:
                    continue
                call, site_blobs = Call(self._net), blobs.sites[site.blob]
                for number in (site_blobs.held, site_blobs.new, site_blobs.below):
                    if number is not None:
                        call.give(number, self._zeros(1, 1, channels))
                call.give(site_blobs.kept_part, _part(1, 0, 1, channels))
                packing[channels] = call.take(site_blobs.kept, packed=True).elempack
        return packing


def _pool() -> Any:
    import ncnn

    pool = ncnn.PoolAllocator()
    pool.set_size_compare_ratio(_WANTED_SHARE)
    return pool


@lru_cache(maxsize=4096)
def _part(columns: int, offset: int, rows: int, channels: int) -> Any:
    """What a Crop reads: x, y, channel, width, height, channels."""
    import ncnn

    numbers = np.array([0, offset, 0, columns, rows, channels], np.int32)
    # Cloned while the array lives: a Mat of an array does not own its memory.
    return ncnn.Mat(numbers).clone()


def _image(rows: NDArray[Any], above: int, below: int) -> Any:
    """(n, w, 3) uint8 or uint16 as a Mat of three planes of floats in 0..1, with zero rows added."""
    import ncnn

    count, width, _ = rows.shape
    image = ncnn.Mat(width, above + count + below, 3)
    planes = np.asarray(image)
    planes[:, :above] = 0
    planes[:, above + count :] = 0
    np.multiply(
        rows.transpose(2, 0, 1),
        np.float32(1 / full_scale(rows.dtype)),
        out=planes[:, above : above + count],
    )
    return image
