"""The plan of one image: in which way, and in pieces of which size, a network is run over it.

A plan is made when a request is admitted, recorded with its answer, and followed exactly by whichever worker
runs it, so that a retry gives the same bytes. It is numbers only and travels as JSON (`to_dict`,
`from_dict`).

A network that can be streamed is run in bands as wide as the image, which carry what the next one needs and
compute nothing twice. Of others, a piece wider than tall would waste less context, and a strip as wide as the
image has context on two sides only: so strips are taken whenever one fits into the memory, and tiles
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

from upscaled_server.errors import InvalidInput
from upscaled_server.tiling.cut import AxisSums, Span, cut_axis, measure_axis

Way = Literal["whole", "tiles", "bands"]


@dataclass(frozen=True, slots=True)
class BandTraits:
    """What a planner must know of a network that can be run in bands on a device.

    `lag_rows`: rows that must follow before a row of the image is finished. `segments`: into how many parts
    the work on a band can be divided. `bytes_per_input_pixel`: peak working memory for each pixel of a band,
    `carried_bytes_per_column`: what is carried from band to band. `seconds_per_segment`: what a segment costs
    beside its pixels. `threads_inside`: one band at a time is computed with all cores, instead of one with
    each. `only`: small images too are run in bands, since the device keeps no other form of the network in
    memory.
    """

    lag_rows: int
    segments: int
    bytes_per_input_pixel: int
    carried_bytes_per_column: int
    seconds_per_segment: float
    threads_inside: bool = False
    only: bool = False


@dataclass(frozen=True, slots=True)
class NetworkTraits:
    """What a planner must know of a network on a device.

    `halo`: input pixels of context a piece needs to each side. `multiple`: piece sizes and positions are
    multiples of it. `bytes_per_input_pixel`: peak working memory of a piece for each of its pixels, context
    included. `seconds_per_pixel`: device seconds (CPU: of one core) for each input pixel. `threads_inside`:
    true where one piece with all threads is run better than several pieces with one thread each. `bands`:
    None where the network cannot be streamed.
    """

    scale: int
    halo: int
    multiple: int
    bytes_per_input_pixel: int
    seconds_per_pixel: float
    min_size: int = 1
    threads_inside: bool = False
    bands: BandTraits | None = None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How one image of `width` x `height` input pixels is run.

    `tile_width` x `tile_height` is the part of the input that a piece finishes; with `halo` pixels of context
    to each side (clipped at the image's borders) it is what a piece computes. `parallel` pieces are computed
    at a time by one step, each with `threads` threads.

    In bands, `tile_height` is a band's height, `halo` how many rows must follow before a row is finished, and
    `parallel` bands are in flight, called a round. The first step does as much work as 1 / `steps_per_band`
    of a round, so that rows come early, as does the last, so that little is left to be done with its rows;
    each between them does `rounds_per_step` times as much, and the one before the last what is left.
    `carried_bytes_per_column` is what is carried from band to band.
    """

    way: Way
    width: int
    height: int
    scale: int
    tile_width: int
    tile_height: int
    halo: int
    multiple: int
    parallel: int
    threads: int
    bytes_per_input_pixel: int
    min_size: int = 1
    steps_per_band: int = 1
    rounds_per_step: int = 1
    carried_bytes_per_column: int = 0

    def __post_init__(self) -> None:
        for name in (
            "width",
            "height",
            "scale",
            "tile_width",
            "tile_height",
            "multiple",
            "parallel",
            "threads",
            "steps_per_band",
            "rounds_per_step",
        ):
            if getattr(self, name) < 1:
                raise InvalidInput(f"a plan's {name} must be at least 1, not {getattr(self, name)}")
        if self.halo < 0 or self.way not in get_args(Way):
            raise InvalidInput(f"a plan cannot have halo {self.halo} and way {self.way!r}")

    @property
    def spans_across(self) -> tuple[Span, ...]:
        """The columns of pieces."""
        return cut_axis(self.width, self.tile_width, self.halo, self.multiple, self.min_size)

    @property
    def spans_down(self) -> tuple[Span, ...]:
        """The rows of pieces."""
        return cut_axis(self.height, self.tile_height, self.halo, self.multiple, self.min_size)

    @property
    def _across(self) -> AxisSums:
        return measure_axis(self.width, self.tile_width, self._context, self.multiple, self.min_size)

    @property
    def _down(self) -> AxisSums:
        return measure_axis(self.height, self.tile_height, self._context, self.multiple, self.min_size)

    @property
    def _context(self) -> int:
        """Bands carry their context and compute none of it again."""
        return 0 if self.way == "bands" else self.halo

    @property
    def columns(self) -> int:
        return math.ceil(self.width / self.tile_width)

    @property
    def rows(self) -> int:
        return math.ceil(self.height / self.tile_height)

    @property
    def strips(self) -> bool:
        """Whether every piece is as wide as the image."""
        return self.columns == 1

    @property
    def divisible(self) -> bool:
        """Whether a piece that is too large may be computed in halves. A whole image without context may not:
        the halves would have none either, and a seam where they meet."""
        return self.way != "whole" or self.halo > 0

    @property
    def steps(self) -> int:
        """How many times a run of this plan must be stepped."""
        if self.way == "bands":
            rounds = self._rounds
            return min(rounds, 2) + math.ceil(max(0, rounds - 2) / self.rounds_per_step)
        if self.strips:
            return math.ceil(self.rows / self.parallel)
        return self.rows * math.ceil(self.columns / self.parallel)

    def bands_after(self, steps: int) -> Fraction:
        """How many bands' worth of work is done after so many steps, from 1 on; those behind the last do
        nothing more."""
        rounds = self._rounds
        if steps < self.steps:
            rounds = min(1 + (steps - 1) * self.rounds_per_step, rounds - 1)
        return Fraction(rounds * self.parallel, self.steps_per_band)

    def rows_for_step(self, number: int) -> int:
        """Of a run in bands: how many of the image's rows its step of this number, from 1 on, may read, at
        most."""
        return min(self.height, (math.ceil(self.bands_after(number)) - 1 + self.parallel) * self.tile_height)

    @property
    def bands(self) -> int:
        """How many bands a run has, with those behind the image's end in which it gives its last rows."""
        return math.ceil((self.height + self.halo) / self.tile_height)

    @property
    def _rounds(self) -> int:
        """Of bands, or of their parts where a band is several steps, as many at a time as are in flight."""
        return math.ceil(self.bands * self.steps_per_band / self.parallel)

    def share_of_step(self, number: int) -> float:
        """How much of a run's work its step of this number is, from 0 on."""
        if self.way != "bands":
            return 1 / self.steps
        bands = Fraction(self.bands)
        before = min(self.bands_after(number), bands) if number else Fraction(0)
        return float((min(self.bands_after(number + 1), bands) - before) / bands)

    @property
    def computed_pixels(self) -> int:
        """Input pixels that go through the network, each counted as often as it is computed."""
        return self._across.computed * self._down.computed

    @property
    def recomputed_share(self) -> float:
        """How much is computed beyond the image itself: 0.25 means a quarter more work than the whole
        image."""
        return self.computed_pixels / (self.width * self.height) - 1

    @property
    def piece_pixels(self) -> int:
        """Input pixels of the largest piece, context and padding included."""
        return self._across.longest * self._down.longest

    @property
    def step_pixels(self) -> int:
        """Input pixels that one step computes at most."""
        return self.piece_pixels * min(self.parallel, self.rows if self.strips else self.columns)

    @property
    def working_bytes(self) -> int:
        """Peak memory of the pieces of one step."""
        return self.step_pixels * self.bytes_per_input_pixel

    def state_bytes(self, *, in_bytes: int = 1, out_bytes: int = 1) -> int:
        """What a run holds between and during steps: rows of input waiting, rows of output in the making, and
        in bands what is carried."""
        if self.way == "bands":
            # One band more than are in flight may be begun in a step, and finished rows are joined.
            rows = self.tile_height * self.parallel * (1 + self.rounds_per_step)
            held = min(self.height, rows + self.halo) * in_bytes
            made = 2 * min(self.height, rows) * self.scale**2 * out_bytes
            return self.width * (3 * (held + made) + self.carried_bytes_per_column)
        group = self.tile_height * (self.parallel if self.strips else 1)
        window = min(self.height, group + 2 * self.halo + 2 * self.multiple)
        finished = min(self.height, group) * self.scale**2
        return 3 * self.width * (window * in_bytes + finished * out_bytes)

    @property
    def needed_bytes(self) -> int:
        """What a budget must hold: the run at its peak, with 16 bits per value in and out."""
        return self.working_bytes + self.state_bytes(in_bytes=2, out_bytes=2)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunPlan:
        """The plan that `to_dict` gave. Raises `InvalidInput` for anything else."""
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidInput(f"not a plan: {error}") from None
