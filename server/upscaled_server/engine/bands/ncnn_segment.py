"""One segment of one band on ncnn: ncnn computes the convolutions, which is nearly all of the work; rows are
joined, added and enlarged here, in the layout that ncnn uses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from upscaled_server.engine.backends.base import full_scale
from upscaled_server.engine.backends.ncnn_binding import Call, packed_view
from upscaled_server.engine.bands.flow import Work
from upscaled_server.engine.bands.graph import IMAGE, Op
from upscaled_server.engine.bands.network import Band, Carried
from upscaled_server.engine.bands.panels import BlobRows, Floats, Patch, Stack

if TYPE_CHECKING:
    from upscaled_server.engine.bands.ncnn_bands import NcnnBands

# Pixels that a convolution computes at a time: few enough for the caches, so many that a call from Python
# does not show. With 128 columns, from 1,500 to 6,000 made no difference that could be told from the noise.
_PIXELS_AT_A_TIME = 3072

# A Winograd convolution computes 4 rows together.
_ROWS_TOGETHER = 4

Value = list[Patch] | Floats
"""A blob in the making: patches, or (channels, rows, width) where channels are not interleaved."""


class Segment:
    """Commits what it made only when all of it is there."""

    def __init__(self, network: NcnnBands, net: Any, band: Band, work: Work, carried: Carried) -> None:
        self._network = network
        self._graph = network.graph
        self._net = net
        self._band = band
        self._work = work
        self._carried = carried
        self._joined: dict[str, BlobRows] = {}
        self._made: dict[str, Value] = {}

    def run(self) -> None:
        work, band, graph = self._work, self._band, self._graph
        self._make_room()
        for blob in work.joins:
            self._join_carried(blob)
            if graph.produced_in[blob] != work.segment:
                self._join_new(blob, band.blobs.get(blob, []))
        for op in graph.segments[work.segment] if work.runs else ():
            self._compute(op)
        kept = {
            blob: self._joined[blob].copy(join.start + join.held + join.new - join.kept, join.kept)
            for blob, join in work.joins.items()
            if join.kept
        }
        band.commit(graph, work, self._carried, kept=kept, made=self._made)

    def _make_room(self) -> None:
        """A stack for the blobs that a convolution reads together, and one for each of the others."""
        joins = self._work.joins
        together = tuple(blob for blob in self._network.together[self._work.segment] if blob in joins)
        for blobs in (together, *((blob,) for blob in joins if blob not in together)):
            if blobs:
                first = min(joins[blob].start for blob in blobs)
                end = max(joins[blob].start + joins[blob].rows for blob in blobs)
                stack = self._stack(blobs, end - first)
                group = 0
                for blob in blobs:
                    groups = self._graph.channels[blob] // stack.pack
                    self._joined[blob] = BlobRows(stack, group, groups, first)
                    group += groups

    def _stack(self, blobs: tuple[str, ...], rows: int) -> Stack:
        network = self._network
        columns, pack = network.columns(blobs[0], self._band.width), network.pack(blobs[0])
        shape = Stack.shape(columns, sum(self._graph.channels[blob] for blob in blobs), rows, pack)
        return Stack(network.memory(int(np.prod(shape))), shape, columns, pack)

    def _join_carried(self, blob: str) -> None:
        join, joined = self._work.joins[blob], self._joined[blob]
        held = self._carried.get((self._work.segment, blob))
        if held is not None:
            joined.load(join.start, held)
        elif join.held:
            joined.zero(join.start, join.held)
        if join.below:
            joined.zero(join.start + join.held + join.new, join.below)

    def _join_new(self, blob: str, value: Value) -> None:
        join, joined = self._work.joins[blob], self._joined[blob]
        start = join.start + join.held
        if isinstance(value, list):
            joined.put(value)
            joined.share(start, join.new)
        else:
            joined.put_planes(start, value)

    def _compute(self, op: Op) -> None:
        if op.kind == "enlarge":
            self._enlarge(op)
            return
        if op.kind == "conv":
            value: Value = self._conv(op)
        elif op.kind == "add":
            value = self._add(op)
        elif op.kind == "unshuffle":
            value = _unshuffled(self._image(op, 0), int(op.factor))
        elif op.kind == "shuffle":
            value = self._shuffled(self._planes(op.edges[0].blob), int(op.factor))
        else:
            value = self._planes(op.edges[0].blob)
            _add_enlarged(value, self._image(op, 1), int(op.factor))
        self._made[op.name] = value
        if op.name in self._work.joins:
            self._join_new(op.name, value)
        elif op.name == self._graph.output:
            self._made[op.name] = self._planes(op.name)

    def _conv(self, op: Op) -> list[Patch]:
        network, (start, end) = self._network, self._work.yields[op.name]
        columns = network.columns(op.name, self._band.width)
        first = op.edges[0].blob
        source = self._image_rows(op) if first == IMAGE else self._joined[first]
        groups = sum(self._graph.channels[edge.blob] for edge in op.edges) // network.pack(first)
        packed, blobs = network.pack(op.name) > 1, network.blobs[op.name]
        most = max(_ROWS_TOGETHER, _PIXELS_AT_A_TIME // columns.panel // _ROWS_TOGETHER * _ROWS_TOGETHER)
        patches = []
        for row in range(start, end, most):
            rows = min(most, end - row)
            for panel in range(columns.count):
                call = Call(self._net)
                call.give(blobs.source, source.as_input(panel, row - 1, rows + 2, groups))
                values = packed_view(call.take(blobs.result, packed=packed))
                patches.append(Patch(panel, row, values))
        return patches

    def _add(self, op: Op) -> list[Patch]:
        """In place of the first addend, which nothing else reads."""
        patches, other = self._made[op.edges[0].blob], self._joined[op.edges[1].blob]
        if not isinstance(patches, list):
            raise TypeError("only what convolutions gave is added to")
        for patch in patches:
            values = patch.values
            if op.factor != 1:
                values *= np.float32(op.factor)
            values += other.interior(patch.panel, patch.row, values.shape[1])
        return patches

    def _enlarge(self, op: Op) -> None:
        """Straight to where it is read."""
        (edge,) = op.edges
        start, end = self._work.yields[op.name]
        first, last = edge.needed(start, end)
        joined = self._joined[op.name]
        joined.put_enlarged(self._joined[edge.blob], start, first, last - first)
        joined.share(start, end - start)

    def _planes(self, blob: str) -> Floats:
        """A blob of this segment as (channels, rows, width)."""
        value = self._made[blob]
        if not isinstance(value, list):
            return value
        columns, (start, end) = self._network.columns(blob, self._band.width), self._work.yields[blob]
        planes = self._room(self._graph.channels[blob], end - start, columns.width)
        for patch in value:
            left, width, top = patch.panel * columns.panel, columns.within(patch.panel), patch.row - start
            rows = planes[:, top : top + patch.values.shape[1]]
            rows[:, :, left : left + width] = patch.values[:, :, :width]
        return planes

    def _shuffled(self, planes: Floats, factor: int) -> Floats:
        _, height, width = planes.shape
        blocks = planes.reshape(-1, factor, factor, height, width).transpose(0, 3, 1, 4, 2)
        shuffled = self._room(*blocks.shape)
        shuffled[...] = blocks
        return shuffled.reshape(-1, height * factor, width * factor)

    def _room(self, *shape: int) -> Floats:
        """In any state, and of memory that was used before: fresh pages cost as much as filling them."""
        return self._network.memory(math.prod(shape)).reshape(shape)

    def _image(self, op: Op, number: int) -> Floats:
        """What an operation reads of the image: three planes of values in 0..1, with zero rows added."""
        rows, above, below = self._band.image_rows(*self._work.image_rows[op.name, number])
        count, width, _ = rows.shape
        planes = np.empty((3, above + count + below, width), np.float32)
        planes[:, :above] = 0
        planes[:, above + count :] = 0
        unit = np.float32(1 / full_scale(rows.dtype))
        np.multiply(rows.transpose(2, 0, 1), unit, out=planes[:, above : above + count])
        return planes

    def _image_rows(self, op: Op) -> BlobRows:
        planes = self._image(op, 0)
        first, _ = self._work.image_rows[op.name, 0]
        rows = BlobRows(self._stack((IMAGE,), planes.shape[1]), 0, 3, first)
        rows.put_planes(first, planes)
        return rows


def _unshuffled(planes: Floats, factor: int) -> Floats:
    channels, height, width = planes.shape
    blocks = planes.reshape(channels, height // factor, factor, width // factor, factor)
    return blocks.transpose(0, 2, 4, 1, 3).reshape(-1, height // factor, width // factor)


def _add_enlarged(planes: Floats, image: Floats, factor: int) -> None:
    blocks = planes.reshape(*image.shape[:2], factor, image.shape[2], factor)
    blocks += image[:, :, None, :, None]
