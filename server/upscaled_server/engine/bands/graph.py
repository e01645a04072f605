"""A network as a stream of rows: which rows of its inputs each operation needs, and which it yields.

The networks are written down once more here, apart from the torch modules and the ncnn files, because both
backends stream them in the same way. An operation reads rows of blobs; a blob is named after the operation
that yields it, and `IMAGE` is the input. Operations are grouped into segments: what one core does at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from upscaled_server.engine.architectures import Architecture, Compact

IMAGE = "image"

Kind = Literal["conv", "add", "add_enlarged", "enlarge", "shuffle", "unshuffle"]
Activation = Literal["none", "leaky", "prelu"]

LEAKY_SLOPE = 0.2

# Rows of an image that goes on and on: a number that every factor divides.
_FAR = 1 << 20


@dataclass(frozen=True, slots=True)
class Edge:
    """What an operation reads of one blob.

    For its output rows [start, end) it needs the blob's rows from `start / up * down - context` to
    `end / up * down + context`; rows beyond the image are zero.
    """

    blob: str
    context: int = 0
    up: int = 1
    down: int = 1

    def first_needed(self, start: int) -> int:
        """The first row of the blob that output row `start` needs; -1 is the zero row above the image."""
        return start // self.up * self.down - self.context

    def needed(self, start: int, end: int) -> tuple[int, int]:
        """The rows of the blob that output rows [start, end) need."""
        return self.first_needed(start), self.first_needed(end) + 2 * self.context

    def reach(self, end: int, complete: bool) -> int:
        """How many output rows can be had from the blob's rows [0, end)."""
        usable = end if complete else max(0, end - self.context)
        return usable // self.down * self.up


@dataclass(frozen=True, slots=True)
class Op:
    """One operation; `name` is also its output's.

    `conv`: 3x3 with zero padding over its inputs joined along channels, with the tensors `tensor`.weight and
    .bias, then `activation` (the slopes of "prelu" are `slopes`). `add`: first * `factor` + second.
    `add_enlarged`: first + second enlarged `factor` times to nearest. `enlarge`: to nearest. `shuffle`,
    `unshuffle`: between channels and pixels.
    """

    name: str
    kind: Kind
    edges: tuple[Edge, ...]
    channels: int
    factor: float = 1
    tensor: str = ""
    activation: Activation = "none"
    slopes: str = ""


@dataclass(frozen=True)
class StreamGraph:
    """Segments in their order; the last operation yields the result. `scale`: output rows per input row."""

    segments: tuple[tuple[Op, ...], ...]
    scale: int

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        return tuple(op for segment in self.segments for op in segment)

    @cached_property
    def output(self) -> str:
        """The blob that is the result."""
        return self.ops[-1].name

    @cached_property
    def blob_of(self) -> dict[tuple[str, int], str]:
        """The blob at each edge of each operation."""
        return {(op.name, number): edge.blob for op in self.ops for number, edge in enumerate(op.edges)}

    def columns(self, blob: str, width: int) -> int:
        """How wide a blob is for an image of this width."""
        up, down = self.rates[blob]
        return width * up // down

    @cached_property
    def channels(self) -> dict[str, int]:
        """Of every blob."""
        return {IMAGE: 3} | {op.name: op.channels for op in self.ops}

    @cached_property
    def produced_in(self) -> dict[str, int]:
        """The segment that yields each blob."""
        return {op.name: index for index, segment in enumerate(self.segments) for op in segment}

    @cached_property
    def last_read_in(self) -> dict[str, int]:
        """The last segment that reads each blob."""
        return {
            edge.blob: index
            for index, segment in enumerate(self.segments)
            for op in segment
            for edge in op.edges
        }

    @cached_property
    def rates(self) -> dict[str, tuple[int, int]]:
        """Rows of each blob for rows of the image: (up, down)."""
        rates = {IMAGE: (1, 1)}
        for op in self.ops:
            edge = op.edges[0]
            up, down = rates[edge.blob]
            rates[op.name] = _reduced(up * edge.up, down * edge.down)
        return rates

    @cached_property
    def large_from(self) -> int:
        """The first segment with convolutions at the result's size; as many as there are where none has."""
        enlarged = (op for op in self.ops if op.kind == "enlarge" and self.rates[op.name] == (self.scale, 1))
        return next((self.produced_in[op.name] for op in enlarged), len(self.segments))

    @cached_property
    def lags(self) -> dict[str, int]:
        """How many rows each blob is behind the image while the image goes on, in rows of the blob."""
        ends = {IMAGE: _FAR}
        for op in self.ops:
            ends[op.name] = min(edge.reach(ends[edge.blob], False) for edge in op.edges)
        return {blob: _FAR * self.rates[blob][0] // self.rates[blob][1] - end for blob, end in ends.items()}

    @cached_property
    def sites(self) -> tuple[tuple[Site, ...], ...]:
        """For each segment, the blobs of which it carries rows from band to band."""
        return tuple(_sites(self, index) for index in range(len(self.segments)))

    @cached_property
    def carried_values_per_column(self) -> float:
        """Values carried from band to band for each column of the image."""
        total = 0.0
        for sites in self.sites:
            for site in sites:
                up, down = self.rates[site.blob]
                starts = (edge.first_needed(self.reached(op.name, _FAR)) for op, edge in site.readers)
                kept = self.reached(site.blob, _FAR) - min(starts)
                total += kept * self.channels[site.blob] * up / down
        return total

    @cached_property
    def lag_rows(self) -> int:
        """Rows that must follow before the last segment has all it needs for a row of the image."""
        crossing = {
            edge.blob
            for index, segment in enumerate(self.segments)
            for op in segment
            for edge in op.edges
            if self.produced_in.get(edge.blob, -1) != index
        }
        lags = (self.lags[blob] * self.rates[blob][1] / self.rates[blob][0] for blob in crossing)
        return math.ceil(max(lags))

    def reached(self, blob: str, end: int) -> int:
        """How many rows of a blob the image's rows [0, end) give while the image goes on."""
        up, down = self.rates[blob]
        return end * up // down - self.lags[blob]

    def is_direct(self, op: Op, edge: Edge) -> bool:
        """Whether every row of the blob goes into this operation at once and nowhere else, within a segment:
        nothing to carry."""
        if edge.context or self.produced_in.get(edge.blob, -1) != self.produced_in[op.name]:
            return False
        if sum(other.blob == edge.blob for each in self.ops for other in each.edges) > 1:
            return False
        return edge.reach(self.reached(edge.blob, _FAR), False) == self.reached(op.name, _FAR)


@dataclass(frozen=True, slots=True)
class Site:
    """A blob as one segment reads it; `context` says whether it has zero rows above and below."""

    segment: int
    blob: str
    readers: tuple[tuple[Op, Edge], ...]

    @property
    def context(self) -> bool:
        return any(edge.context for _, edge in self.readers)


def _sites(graph: StreamGraph, index: int) -> tuple[Site, ...]:
    readers: dict[str, list[tuple[Op, Edge]]] = {}
    for op in graph.segments[index]:
        for edge in op.edges:
            if edge.blob != IMAGE and not graph.is_direct(op, edge):
                readers.setdefault(edge.blob, []).append((op, edge))
    return tuple(Site(index, blob, tuple(found)) for blob, found in readers.items())


def _reduced(up: int, down: int) -> tuple[int, int]:
    while up % 2 == 0 and down % 2 == 0:
        up, down = up // 2, down // 2
    return up, down


@lru_cache(maxsize=32)
def stream_graph(architecture: Architecture) -> StreamGraph:
    """The network of this architecture; its tensors are used in the order of `architecture.shapes()`."""
    builder = _Builder()
    if isinstance(architecture, Compact):
        blob = IMAGE
        last = 2 * (architecture.convs + 1)
        for index in range(0, last, 2):
            blob = builder.conv(
                f"body.{index}", (blob,), architecture.features, "prelu", slopes=f"body.{index + 1}.weight"
            )
            builder.cut()
        factor = architecture.scale
        blob = builder.conv(f"body.{last}", (blob,), 3 * factor * factor)
        blob = builder.add(Op("detail", "shuffle", (Edge(blob, up=factor),), 3, factor))
        builder.add(Op("result", "add_enlarged", (Edge(blob), Edge(IMAGE, up=factor)), 3, factor))
        builder.cut()
        return StreamGraph(tuple(builder.segments), factor)
    features, growth, block = architecture.features, architecture.growth, architecture.unshuffle
    blob = IMAGE
    if block > 1:
        blob = builder.add(Op("unshuffled", "unshuffle", (Edge(blob, down=block),), 3 * block * block, block))
    first = blob = builder.conv("conv_first", (blob,), features)
    builder.cut()
    for number in range(architecture.blocks):
        start = blob
        for dense in (1, 2, 3):
            blob = builder.dense(f"body.{number}.rdb{dense}", blob, features, growth)
            if dense == 3:
                blob = builder.residual(f"body.{number}", blob, start, features)
            builder.cut()
    blob = builder.conv("conv_body", (blob,), features)
    blob = builder.add(Op("trunk", "add", (Edge(blob), Edge(first)), features))
    builder.cut()
    for name in ("conv_up1", "conv_up2"):
        blob = builder.add(Op(f"{name}.enlarged", "enlarge", (Edge(blob, up=2),), features, 2))
        blob = builder.conv(name, (blob,), features, "leaky")
        builder.cut()
    blob = builder.conv("conv_hr", (blob,), features, "leaky")
    builder.cut()
    builder.conv("conv_last", (blob,), 3)
    builder.cut()
    return StreamGraph(tuple(builder.segments), architecture.scale)


class _Builder:
    def __init__(self) -> None:
        self.segments: list[tuple[Op, ...]] = []
        self._open: list[Op] = []

    def add(self, op: Op) -> str:
        self._open.append(op)
        return op.name

    def cut(self) -> None:
        self.segments.append(tuple(self._open))
        self._open = []

    def conv(
        self,
        tensor: str,
        inputs: tuple[str, ...],
        channels: int,
        activation: Activation = "none",
        *,
        slopes: str = "",
    ) -> str:
        edges = tuple(Edge(blob, context=1) for blob in inputs)
        return self.add(
            Op(tensor, "conv", edges, channels, tensor=tensor, activation=activation, slopes=slopes)
        )

    def residual(self, name: str, blob: str, start: str, channels: int) -> str:
        return self.add(Op(name, "add", (Edge(blob), Edge(start)), channels, 0.2))

    def dense(self, name: str, start: str, features: int, growth: int) -> str:
        blobs = [start]
        for layer in range(1, 5):
            blobs.append(self.conv(f"{name}.conv{layer}", tuple(blobs), growth, "leaky"))
        last = self.conv(f"{name}.conv5", tuple(blobs), features)
        return self.residual(name, last, start, features)
