"""From the network's rows to the rows of the output: grey, size, crop, alpha. One strip at a time."""

from __future__ import annotations

import queue

from upscaled_server.media.planes import Rows, join_alpha, over_white, split_alpha, to_bits, to_grey, to_rgb
from upscaled_server.media.resample import RowResampler
from upscaled_server.media.row_buffer import RowBuffer
from upscaled_server.media.size import OutputSize


class Resizer:
    """Rows of `width` x `height`, a whole multiple of the input, to rows of the output's size and part of
    the picture."""

    def __init__(
        self, width: int, height: int, factor: int, size: OutputSize, planes: int, bits: int
    ) -> None:
        left, top, right, bottom = (edge * factor for edge in size.box)
        box = (left, top, min(right, width), min(bottom, height))
        same = (width, height) == (size.width, size.height) and box == (0, 0, width, height)
        self._resampler = (
            None if same else RowResampler(width, height, size.width, size.height, planes, bits, box)
        )

    def push(self, rows: Rows) -> Rows:
        return rows if self._resampler is None else self._resampler.push(rows)


class AlphaTrack:
    """The alpha plane, resampled on its own while colour goes through the network.

    Input rows wait here until the colour of the same rows comes out, so that what is held is input, not
    output. `keep` may be called in another thread than `advance`.
    """

    def __init__(self, width: int, height: int, size: OutputSize, bits: int) -> None:
        self._waiting: queue.SimpleQueue[Rows] = queue.SimpleQueue()
        self._resizer = Resizer(width, height, 1, size, 1, bits)
        self._bits = bits
        self.ready = RowBuffer()

    def keep(self, rows: Rows) -> None:
        """Alpha rows of the input, (n, width, 1), in order."""
        self._waiting.put(rows.copy())

    def advance(self, wanted: int) -> None:
        """Resample until `wanted` output rows are ready, or every row that was kept has been used."""
        while self.ready.rows < wanted:
            try:
                rows = self._waiting.get_nowait()
            except queue.Empty:
                return
            self.ready.append(self._resizer.push(to_bits(rows, self._bits)))


class Finisher:
    """What happens to every strip between decoder, network and encoder.

    Its methods block for milliseconds: call them in a thread. `prepare` may run beside `push`.
    """

    def __init__(self, resizer: Resizer, alpha: AlphaTrack | None, *, grey: bool, flatten: bool) -> None:
        self._resizer = resizer
        self._alpha = alpha
        self._grey = grey
        self._flatten = flatten
        self._colour = RowBuffer()

    def prepare(self, rows: Rows) -> Rows:
        """Decoded rows as the RGB that the network takes; alpha is put aside."""
        if self._flatten:
            rows = over_white(rows)
        elif self._alpha is not None:
            rows, alpha = split_alpha(rows)
            self._alpha.keep(alpha)
        return to_rgb(rows)

    def push(self, rgb: Rows) -> Rows | None:
        """The rows of the output that a strip of the network's rows completes."""
        return self._with_alpha(self._resizer.push(to_grey(rgb) if self._grey else rgb))

    def _with_alpha(self, colour: Rows) -> Rows | None:
        if self._alpha is None:
            return colour if colour.shape[0] else None
        # Resampling may need alpha rows further down than the colour that is there, so either can be behind.
        self._colour.append(colour)
        self._alpha.advance(self._colour.rows)
        count = min(self._colour.rows, self._alpha.ready.rows)
        if not count:
            return None
        return join_alpha(self._colour.take(count), self._alpha.ready.take(count))
