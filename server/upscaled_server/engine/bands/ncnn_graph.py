"""The ncnn graph that runs a network in bands: every segment a graph of its own, all in one net.

One net serves the first band, those in the middle, the last one and whole images, because what differs comes
in as data: the rows carried from the band before (one zero row above the image), the row below (none, or one
zero row at the image's end; a blob of no rows may go into a Concat as long as something comes out), and
which rows each operation reads of the joined ones (a Crop that takes its numbers from a blob).

    carried ─┐                     ┌─ Crop ─ …
    new ─────┼─ Concat ─ joined ───┼─ Crop ─ Concat (channels) ─ Convolution without padding above and below
    below ───┘                     └─ Crop ─ carried on

The convolutions come in the order of the architecture's tensors, so the `.bin` of the plain network fits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from upscaled_server.engine.bands.flow import Reader
from upscaled_server.engine.bands.graph import IMAGE, LEAKY_SLOPE, Edge, Op, StreamGraph
from upscaled_server.engine.weights.ncnn.graph import Layer, Value, format_graph

# Crop: take offset and size from the second blob, as integers (x, y, channel, width, height, channels).
_CROP_BY_BLOB: dict[int, Value] = {0: -233}
_ROWS: dict[int, Value] = {0: 1}


@dataclass(slots=True)
class SiteBlobs:
    """Blob numbers of one site. `from_outside`: the new rows go in, because another segment yielded them."""

    held: int
    new: int
    below: int | None
    kept: int
    kept_part: int
    from_outside: bool


@dataclass(slots=True)
class SegmentBlobs:
    """Blob numbers of one segment. `inputs`: blobs of other segments read directly. `parts`, `images`: by
    reader. `yields`: what comes out for other segments or as the result."""

    sites: dict[str, SiteBlobs] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    parts: dict[Reader, int] = field(default_factory=dict)
    images: dict[Reader, int] = field(default_factory=dict)
    yields: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BandGraph:
    param: bytes
    segments: tuple[SegmentBlobs, ...]


def band_graph(graph: StreamGraph) -> BandGraph:
    """The `.param` text, and where everything goes in and comes out."""
    writer = _Writer(graph)
    segments = tuple(writer.segment(index) for index in range(len(graph.segments)))
    return BandGraph(format_graph(tuple(writer.layers)), segments)


class _Writer:
    def __init__(self, graph: StreamGraph) -> None:
        self.layers: list[Layer] = []
        self._graph = graph
        self._count = 0

    def segment(self, index: int) -> SegmentBlobs:
        ops = self._graph.segments[index]
        found = SegmentBlobs()
        read: dict[Reader, str] = {}
        sites = {site.blob: site.readers for site in self._graph.sites[index]}
        for blob, readers in sites.items():
            if self._graph.produced_in[blob] != index:
                self._site(found, read, index, blob, readers, self._input(f"{index}/{blob}/new"))
        for op in ops:
            sources = [
                self._source(found, read, index, op, number, edge) for number, edge in enumerate(op.edges)
            ]
            result = self._op(op, sources)
            if self._graph.last_read_in.get(op.name, len(self._graph.segments)) > index:
                if op.name in sites:
                    result, beside = self._add("Split", (result,), 2)
                    found.yields[op.name] = self._number(beside)
                else:
                    found.yields[op.name] = self._number(result)
            if op.name in sites:
                self._site(found, read, index, op.name, sites[op.name], result, own=True)
            elif op.name not in found.yields:
                read[op.name, -1] = result
        return found

    def _source(
        self, found: SegmentBlobs, read: dict[Reader, str], index: int, op: Op, number: int, edge: Edge
    ) -> str:
        if (op.name, number) in read:
            return read[op.name, number]
        if edge.blob == IMAGE:
            name = self._input(f"{index}/{op.name}/image")
            found.images[op.name, number] = self._number(name)
            return name
        if (edge.blob, -1) in read:
            return read[edge.blob, -1]
        name = self._input(f"{index}/{edge.blob}/direct")
        found.inputs[edge.blob] = self._number(name)
        return name

    def _site(
        self,
        found: SegmentBlobs,
        read: dict[Reader, str],
        index: int,
        blob: str,
        readers: tuple[tuple[Op, Edge], ...],
        new: str,
        *,
        own: bool = False,
    ) -> None:
        held = self._input(f"{index}/{blob}/held")
        joined: tuple[str, ...] = (held, new)
        below: int | None = None
        if any(edge.context for _, edge in readers):
            name = self._input(f"{index}/{blob}/below")
            joined, below = (held, new, name), self._number(name)
        (whole,) = self._add("Concat", joined, 1, _ROWS)
        copies = self._add("Split", (whole,), len(readers) + 1)
        for (op, edge), copy in zip(readers, copies[1:], strict=True):
            reader = op.name, op.edges.index(edge)
            part = self._input(f"{index}/{blob}/{op.name}/part")
            found.parts[reader] = self._number(part)
            (read[reader],) = self._add("Crop", (copy, part), 1, _CROP_BY_BLOB)
        part = self._input(f"{index}/{blob}/part")
        (kept,) = self._add("Crop", (copies[0], part), 1, _CROP_BY_BLOB)
        number = self._number
        found.sites[blob] = SiteBlobs(number(held), number(new), below, number(kept), number(part), not own)

    def _op(self, op: Op, sources: list[str]) -> str:
        if op.kind == "conv":
            source = sources[0] if len(sources) == 1 else self._add("Concat", tuple(sources), 1)[0]
            return self._conv(op, source)
        if op.kind == "add":
            if op.factor == 1:
                return self._add("BinaryOp", tuple(sources), 1, {0: 0})[0]
            return self._add("Eltwise", tuple(sources), 1, {0: 1, 1: (op.factor, 1.0)})[0]
        if op.kind == "add_enlarged":
            enlarged = self._enlarge(sources[1], op.factor)
            return self._add("BinaryOp", (sources[0], enlarged), 1, {0: 0})[0]
        if op.kind == "enlarge":
            return self._enlarge(sources[0], op.factor)
        kind = "PixelShuffle" if op.kind == "shuffle" else "Reorg"
        return self._add(kind, tuple(sources), 1, {0: int(op.factor)})[0]

    def _conv(self, op: Op, source: str) -> str:
        inputs = sum(self._graph.channels[edge.blob] for edge in op.edges)
        # Padded by 1 to the left (4) and so to the right, not above (14) and so not below.
        values: dict[int, Value] = {0: op.channels, 1: 3, 4: 1, 14: 0, 5: 1, 6: op.channels * inputs * 9}
        if op.activation == "leaky":
            values |= {9: 2, 10: (LEAKY_SLOPE,)}
        (result,) = self._add("Convolution", (source,), 1, values)
        if op.activation == "prelu":
            (result,) = self._add("PReLU", (result,), 1, {0: op.channels})
        return result

    def _enlarge(self, source: str, factor: float) -> str:
        return self._add("Interp", (source,), 1, {0: 1, 1: float(factor), 2: float(factor)})[0]

    def _input(self, name: str) -> str:
        self.layers.append(Layer("Input", name, (), (f"b{self._count}",)))
        self._count += 1
        return self.layers[-1].outputs[0]

    def _add(
        self, kind: str, inputs: tuple[str, ...], outputs: int, values: dict[int, Value] | None = None
    ) -> tuple[str, ...]:
        names = tuple(f"b{self._count + number}" for number in range(outputs))
        self._count += outputs
        self.layers.append(Layer(kind, f"{kind.lower()}_{len(self.layers)}", inputs, names, values or {}))
        return names

    def _number(self, blob: str) -> int:
        """ncnn numbers blobs in the order in which they appear as outputs, and so are they named here."""
        return int(blob[1:])
