"""The run of an image in bands: see `engine.run.Run`."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine.backends.base import pad_behind
from upscaled_server.engine.bands.flow import Flow
from upscaled_server.engine.bands.network import Band, BandNetwork, Carried
from upscaled_server.engine.bands.wavefront import Flight, Wavefront
from upscaled_server.engine.rows import RowWindow
from upscaled_server.errors import ProcessingFailed
from upscaled_server.tiling.plan import RunPlan


class BandsRun:
    """A run that carries rows from band to band. It holds the input rows that bands will still read, the
    carried rows, and the bands in flight (`plan.parallel`)."""

    def __init__(
        self,
        network: BandNetwork,
        plan: RunPlan,
        out_bits: Literal[8, 16],
        executor: Executor,
        on_close: Callable[[], None] = lambda: None,
        *,
        planes: Literal[1, 3] = 3,
    ) -> None:
        if plan.scale != network.graph.scale:
            raise ProcessingFailed(
                f"the plan is for scale {plan.scale}, the network enlarges by {network.graph.scale}"
            )
        self.plan = plan
        self._network = network
        self._executor = executor
        self._on_close = on_close
        self._dtype = np.dtype(np.uint8 if out_bits == 8 else np.uint16)
        self._planes = planes
        self._width = _padded(plan.width, plan.multiple)
        self._height = _padded(plan.height, plan.multiple)
        self._band_rows = plan.tile_height
        self._flow = Flow(network.graph, self._height)
        self._carried: Carried = {}
        self._finished: list[NDArray[Any]] = []
        self._block: NDArray[Any] | None = None
        self._fed = 0
        self._begun = 0
        self._steps = 0
        self._units = 0
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
        return self._flow.complete and not self._wavefront.flights

    @property
    def state_bytes(self) -> int:
        blobs = [blob for flight in self._wavefront.flights for blob in flight.band.blobs.values()]
        finished = sum(rows.nbytes for rows in self._finished)
        carried = self._network.bytes_of(self._carried.values())
        return self._window.nbytes + carried + self._network.bytes_of(blobs) + finished

    @property
    def batch_key(self) -> str | None:
        return None  # each carries rows of its own

    def feed(self, rows: NDArray[Any]) -> None:
        if self._closed:
            raise ProcessingFailed("the run is closed")
        width, height = self.plan.width, self.plan.height
        if self._width == width and self._height == height:
            self._window.append(rows)
            self._fed += len(rows)
            return
        if rows.ndim != 3 or rows.shape[1:] != (width, 3) or self._fed + len(rows) > height:
            raise ProcessingFailed(f"rows of {width} RGB pixels are wanted, at most {height}: {rows.shape}")
        rows = pad_behind(rows, 1, self._width - width)
        self._window.append(rows)
        self._fed += len(rows)
        if len(rows) and self._fed == height < self._height:
            # The window keeps the rows that the padding reflects: they are the last ones.
            count = min(height, self._height - height + 1)
            last = self._window.view(height - count, height)
            self._window.append(pad_behind(last, 0, self._height - height)[count:])

    def step(self) -> NDArray[Any]:
        if self._closed or self.done:
            raise ProcessingFailed("the run is " + ("closed" if self._closed else "done"))
        if self.rows_wanted:
            raise ProcessingFailed(f"{self.rows_wanted} more rows must be fed first")
        self._steps += 1
        total = self._units_after(self._steps)
        left = self._wavefront.run(total - self._units, self.plan.parallel, self._executor)
        self._units = total - left
        if self.done:
            self._window.clear()
            self._carried.clear()
        else:
            self._window.drop_before(self._first_row_needed())
        finished, self._finished = self._finished, []
        self._block = None
        if len(finished) == 1:
            return finished[0]
        if not finished:
            return np.empty((0, self.plan.width * self.plan.scale, self._planes), self._dtype)
        return np.concatenate(finished)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._finished.clear()
        self._block = None
        self._carried.clear()
        self._wavefront.flights.clear()
        self._window.clear()
        self._on_close()

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
        self._network.run(band, band.works[index], self._carried)
        if index < self._segments - 1:
            return
        # The last segments of bands run one after the other, so rows are finished in order.
        scale = self.plan.scale
        start, end = band.works[-1].yields[self._network.graph.output]
        end = min(end, self.plan.height * scale)
        if end > start:
            self._network.store(band, self._room(end - start))
        band.blobs.clear()

    def _room(self, count: int) -> NDArray[Any]:
        """For finished rows behind those that this step has finished before, nearly always in one block with
        them, so that they need not be joined."""
        block, used = self._block, len(self._finished[-1]) if self._finished else 0
        if block is None or used + count > len(block):
            usual = (self.plan.parallel * self.plan.rounds_per_step + 1) * self._band_rows * self.plan.scale
            shape = (max(count, usual), self.plan.width * self.plan.scale, self._planes)
            block, used = np.empty(shape, self._dtype), 0
            self._block = block
            self._finished.append(block[:0])
        self._finished[-1] = block[: used + count]
        return block[used : used + count]

    def _first_row_needed(self) -> int:
        first = self._flow.first_image_row()
        for flight in self._wavefront.flights:
            for work in flight.band.works[flight.segment :]:
                first = min([first, *(start for start, _ in work.image_rows.values())])
        # Two more for the padding below, which reflects what stands before the last row.
        return max(0, min(first, self._fed - 2) if self._height > self.plan.height else first)


def _padded(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple
