"""Following the rows of one image through a network: what each segment has to do for each band.

Integers only. A segment runs on a band when each of its operations can yield at least one row (backends
cannot compute nothing); until then the rows that came are only gathered. The zero row above the image is row
-1 of a blob, the one below is the row after its last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from upscaled_server.engine.bands.graph import IMAGE, Site, StreamGraph
from upscaled_server.errors import ProcessingFailed

Reader = tuple[str, int]
"""An operation's name and the number of its edge."""


@dataclass(frozen=True, slots=True)
class Join:
    """The rows of one site in one band, from row `start` of the blob on: `held` carried ones, `new` ones, and
    the zero row `below` the image.

    Of all of these together the last `kept` are carried on.
    """

    start: int
    held: int
    new: int
    below: int
    kept: int

    @property
    def rows(self) -> int:
        return self.held + self.new + self.below


@dataclass(frozen=True, slots=True)
class Work:
    """What one segment does for one band.

    `joins` by blob. `parts`: for each reader of a joined blob, (offset, rows) of what it reads of it.
    `image_rows`: for each reader of the image, the rows [start, end) that it reads, perhaps with the zero
    rows -1 and `height`. `yields`: the rows [start, end) of each blob that it yields; empty where `runs` is
    false.
    """

    segment: int
    runs: bool
    joins: dict[str, Join] = field(default_factory=dict)
    parts: dict[Reader, tuple[int, int]] = field(default_factory=dict)
    image_rows: dict[Reader, tuple[int, int]] = field(default_factory=dict)
    yields: dict[str, tuple[int, int]] = field(default_factory=dict)


class Flow:
    """The rows of one image of `height` rows: `advance` once for each band, in order.

    Bands go on behind the image's end, until the last segment has caught up: so the rows that segments hold
    back come a band at a time too, and no band is larger than the others.
    """

    def __init__(self, graph: StreamGraph, height: int) -> None:
        self._graph = graph
        self._height = height
        self._heights = {blob: height * up // down for blob, (up, down) in graph.rates.items()}
        self._ends = dict.fromkeys(graph.rates, 0)
        self._held = {
            (site.segment, site.blob): -1 if site.context else 0 for sites in graph.sites for site in sites
        }

    @property
    def complete(self) -> bool:
        """Whether the last row of the result has been yielded."""
        return self._ends[self._graph.output] == self._heights[self._graph.output]

    def advance(self, end: int) -> tuple[Work, ...]:
        """The work for the image's rows up to `end`, which may be behind its last one, by segment."""
        if self._ends[IMAGE] >= min(end, self._height) and end <= self._height:
            raise ProcessingFailed(f"a band cannot end at row {end}")
        before = dict(self._ends)
        self._ends[IMAGE] = min(end, self._height)
        return tuple(self._segment(index, before, end) for index in range(len(self._graph.segments)))

    def first_image_row(self) -> int:
        """The first row of the image that bands to come will read."""
        first = self._height
        for op in self._graph.ops:
            for edge in op.edges:
                if edge.blob == IMAGE:
                    first = min(first, edge.first_needed(self._ends[op.name]))
        return max(0, first)

    def _segment(self, index: int, before: dict[str, int], band_end: int) -> Work:
        graph, ends = self._graph, self._ends
        ops = graph.segments[index]
        own = {op.name for op in ops}
        visible: dict[str, int] = {}
        for op in ops:
            for edge in op.edges:
                if edge.blob not in own:
                    # Earlier segments may be ahead at the image's end; a band takes no more than its share.
                    visible[edge.blob] = min(ends[edge.blob], graph.reached(edge.blob, band_end))
            ends[op.name] = visible[op.name] = min(
                edge.reach(visible[edge.blob], visible[edge.blob] == self._heights[edge.blob])
                for edge in op.edges
            )
        runs = all(ends[name] > before[name] for name in own)
        if not runs:
            ends.update((name, before[name]) for name in own)
        work = Work(index, runs, yields={op.name: (before[op.name], ends[op.name]) for op in ops})
        for site in graph.sites[index]:
            if runs or ends[site.blob] > before[site.blob]:
                work.joins[site.blob] = self._join(site, work, before[site.blob])
        for op in ops if runs else ():
            for number, edge in enumerate(op.edges):
                if edge.blob == IMAGE:
                    work.image_rows[op.name, number] = edge.needed(*work.yields[op.name])
        return work

    def _join(self, site: Site, work: Work, before: int) -> Join:
        held_from = self._held[site.segment, site.blob]
        end = self._ends[site.blob]
        following, below = held_from, 0
        if work.runs:
            following = end
            for op, edge in site.readers:
                first, last = edge.needed(*work.yields[op.name])
                work.parts[op.name, op.edges.index(edge)] = (first - held_from, last - first)
                below = max(below, last - end)
                if self._ends[op.name] < self._heights[op.name]:
                    following = min(following, edge.first_needed(self._ends[op.name]))
        self._held[site.segment, site.blob] = following
        return Join(
            start=held_from, held=before - held_from, new=end - before, below=below, kept=end - following
        )
