"""What a backend gives to run a network in bands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from upscaled_server.engine.bands.flow import Work
from upscaled_server.engine.bands.graph import StreamGraph
from upscaled_server.engine.rows import RowWindow

Carried = dict[tuple[int, str], Any]
"""What a run carries from band to band: by segment and blob, in the backend's own form."""


@dataclass(slots=True)
class Band:
    """One band on its way through the network.

    `window` holds the image's rows, (n, `width`, 3) uint8 or uint16; `height` is the image's. `threads`: how
    many may work inside a segment. `blobs`: what earlier segments yielded and later ones will read, in the
    backend's own form.
    """

    window: RowWindow
    width: int
    height: int
    threads: int
    works: tuple[Work, ...]
    blobs: dict[str, Any] = field(default_factory=dict)

    def image_rows(self, start: int, end: int) -> tuple[NDArray[Any], int, int]:
        """Rows [start, end) as (rows, how many zero rows above them, how many below)."""
        above, below = max(0, -start), max(0, end - self.height)
        return self.window.view(start + above, end - below), above, below

    def commit(
        self,
        graph: StreamGraph,
        work: Work,
        carried: Carried,
        *,
        kept: Mapping[str, Any],
        made: Mapping[str, Any],
    ) -> None:
        """Hand on what a segment `kept` for the next band and `made` for later segments, and drop what nobody
        reads again. A backend does this last, so that a segment that fails has changed nothing."""
        segment = work.segment
        for blob in work.joins:
            carried.pop((segment, blob), None)
        carried.update(((segment, blob), rows) for blob, rows in kept.items())
        for blob in [blob for blob in self.blobs if graph.last_read_in[blob] <= segment]:
            del self.blobs[blob]
        # What no operation reads is the result: `store` does.
        last = len(graph.segments)
        self.blobs.update(
            (blob, rows) for blob, rows in made.items() if graph.last_read_in.get(blob, last) > segment
        )


class BandNetwork(Protocol):
    """A network on a device, segment by segment; `precision` is what it computes in.

    `run` may be called from several threads at once, as long as each segment of an image goes through its
    bands in order, and does not hold the GIL while it computes.
    """

    graph: StreamGraph
    precision: str

    def run(self, band: Band, work: Work, carried: Carried) -> None:
        """Compute one segment of one band: from `band.blobs` and `carried` to both.

        Nothing is changed when it fails. Raises `OutOfMemory`, `ProcessingFailed`.
        """
        ...

    def store(self, band: Band, out: NDArray[Any]) -> None:
        """Round what the last segment yielded into `out`, (n, w, 3) uint8 or uint16, or (n, w, 1) of luma:
        clipped, rounded half up. Rows and columns beyond `out` are padding."""
        ...

    def bytes_of(self, values: Iterable[Any]) -> int:
        """What carried rows or blobs take on the device."""
        ...


@runtime_checkable
class Streamable(Protocol):
    """A loaded network that can be run in bands."""

    def bands(self) -> BandNetwork:
        """The same network, for runs in bands. Raises `ProcessingFailed`."""
        ...
