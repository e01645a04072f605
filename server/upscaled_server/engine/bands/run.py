"""The run of an image in bands: see `engine.run.Run`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.backends.base import Empty, pad_behind
from upscaled_server.engine.bands.finished import FinishedRows
from upscaled_server.engine.bands.flow import Flow
from upscaled_server.engine.bands.network import Band, BandNetwork, Carried
from upscaled_server.engine.bands.wavefront import Flight, Wavefront
from upscaled_server.engine.rows import RowWindow
from upscaled_server.errors import ProcessingFailed
from upscaled_server.tiling.plan import RunPlan


class BandsRun:
    """A run that carries rows from band to band. It holds the input rows that bands will still read, the
    carried rows, and the bands in flight: `plan.parallel`, and where these are several one more.

    With several bands in flight a step calls `leaving`, and the cores go on to the next step one after the
    other. Steps that overlap return in order.
    """

    def __init__(
        self,
        network: BandNetwork,
        plan: RunPlan,
        out_bits: Literal[8, 16],
        executor: Executor,
        on_close: Callable[[], None] = lambda: None,
        *,
        planes: Literal[1, 3] = 3,
        on_step: Callable[[], None] = lambda: None,
        empty: Empty = np.empty,
    ) -> None:
        """`on_step` is called when a step begins. `empty` makes the arrays that `step` returns."""
        if plan.scale != network.graph.scale:
            raise ProcessingFailed(
                f"the plan is for scale {plan.scale}, the network enlarges by {network.graph.scale}"
            )
        self.plan = plan
        self._network = network
        self._executor = executor
        self._on_close = on_close
        self._on_step = on_step
        self._dtype = np.dtype(np.uint8 if out_bits == 8 else np.uint16)
        self._width = _padded(plan.width, plan.multiple)
        self._height = _padded(plan.height, plan.multiple)
        self._band_rows = plan.tile_height
        self._flow = Flow(network.graph, self._height)
        self._carried: Carried = {}
        usual_rows = (plan.parallel * plan.rounds_per_step + 1) * plan.tile_height * plan.scale
        self._finished = FinishedRows((plan.width * plan.scale, planes), self._dtype, usual_rows, empty)
        self._fed = 0
        self._begun = 0
        self._steps = 0
        self._steps_ended = 0
        self._ending = threading.Condition()
        segments = len(network.graph.segments)
        self._segments = segments
        self._wavefront = Wavefront(segments, self._compute, self._begin, large_from=network.graph.large_from)
        self._window = RowWindow(self._width, self._height, capacity=self._rows_of_next_step())
        self._closed = False

    @property
    def rows_wanted(self) -> int:
        return 0 if self.done else max(0, min(self.plan.height, self._rows_of_next_step()) - self._fed)

    @property
    def done(self) -> bool:
        with self._wavefront.still():
            return self._all_computed

    @property
    def state_bytes(self) -> int:
        # Lists, since the next step may be at work on them.
        flights = list(self._wavefront.flights)
        blobs = [blob for flight in flights for blob in list(flight.band.blobs.values())]
        carried = list(self._carried.values())
        return self._window.nbytes + self._network.bytes_of(carried + blobs) + self._finished.nbytes

    @property
    def precision(self) -> str:
        return self._network.precision

    @property
    def batch_key(self) -> str | None:
        return None  # each carries rows of its own

    def feed(self, rows: NDArray[Any]) -> None:
        if self._closed:
            raise ProcessingFailed("the run is closed")
        width, height = self.plan.width, self.plan.height
        fed = self._fed + len(rows)
        if self._width == width and self._height == height:
            self._window.append(rows)
            self._fed = fed
            return
        if rows.ndim != 3 or rows.shape[1:] != (width, 3) or fed > height:
            raise ProcessingFailed(f"rows of {width} RGB pixels are wanted, at most {height}: {rows.shape}")
        rows = pad_behind(rows, 1, self._width - width)
        self._window.append(rows)
        if len(rows) and fed == height < self._height:
            # The window keeps the rows that the padding reflects: they are the last ones.
            count = min(height, self._height - height + 1)
            last = self._window.view(height - count, height)
            self._window.append(pad_behind(last, 0, self._height - height)[count:])
        self._fed = fed

    def step(self, leaving: Callable[[], None] | None = None) -> NDArray[Any]:
        if self._closed or self.done:
            raise ProcessingFailed("the run is " + ("closed" if self._closed else "done"))
        if self.rows_wanted:
            raise ProcessingFailed(f"{self.rows_wanted} more rows must be fed first")
        self._on_step()
        self._steps += 1
        number = self._steps
        try:
            self._wavefront.run(self._units_after(number), self.plan.parallel, self._executor, leaving)
            self._wait_for_turn(number)
            # Not of a step that fails: the next one gives what this one finished.
            rows = self._finished.take()
            self._forget_rows()
        finally:
            self._wait_for_turn(number)
            with self._ending:
                self._steps_ended = number
                self._ending.notify_all()
        return rows

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._finished.clear()
        self._carried.clear()
        for flight in self._wavefront.flights:
            # The error of a step that failed may still hold the band.
            flight.band.blobs.clear()
        self._wavefront.flights.clear()
        self._window.clear()
        self._on_close()

    @property
    def _all_computed(self) -> bool:
        """For those who are where no band begins meanwhile: the last one completes the flow first."""
        return self._flow.complete and not self._wavefront.flights

    def _wait_for_turn(self, number: int) -> None:
        with self._ending:
            # No time limit of its own: a step that hangs is ended together with its process.
            self._ending.wait_for(lambda: self._steps_ended == number - 1)

    def _units_after(self, steps: int) -> int:
        return int(self.plan.bands_after(steps) * self._segments)

    def _rows_of_next_step(self) -> int:
        """The last input row, plus one, that the next step may begin a band with."""
        units = self._units_after(self._steps + 1)
        bands = (units - 1) // self._segments + self.plan.parallel
        return min(self._height, bands * self._band_rows)

    def _begin(self) -> Band | None:
        available = self._height if self._fed == self.plan.height else self._fed
        end = self._begun + self._band_rows
        if self._flow.complete or min(end, self._height) > available:
            return None
        works = self._flow.advance(end)
        self._begun = end
        return Band(self._window, self._width, self._height, self.plan.threads, works)

    def _compute(self, flight: Flight) -> None:
        band, index = flight.band, flight.segment
        # There already where it was computed before, and only to store it failed.
        if self._network.graph.output not in band.blobs:
            self._network.run(band, band.works[index], self._carried)
        if index < self._segments - 1:
            return
        # The last segments of bands run one after the other, so rows are finished in order.
        scale = self.plan.scale
        start, end = band.works[-1].yields[self._network.graph.output]
        end = min(end, self.plan.height * scale)
        if end > start:
            room = self._finished.room(end - start)
            self._network.store(band, room.rows)
            self._finished.give(room)
        band.blobs.clear()

    def _forget_rows(self) -> None:
        """Let go of what no band will read again."""
        with self._wavefront.still():
            if self._all_computed:
                self._window.clear()
                self._carried.clear()
                return
            first = self._flow.first_image_row()
            for flight in self._wavefront.flights:
                for work in flight.band.works[flight.segment :]:
                    first = min([first, *(start for start, _ in work.image_rows.values())])
        # Two more for the padding below, which reflects what stands before the last row.
        self._window.drop_before(
            max(0, min(first, self._fed - 2) if self._height > self.plan.height else first)
        )


def _padded(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple
