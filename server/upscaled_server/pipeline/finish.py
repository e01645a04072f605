"""From the network's rows to the rows of the output: grey, size, crop, alpha. One strip at a time."""

from __future__ import annotations

import queue

from upscaled_server.media.correction import ColourCorrection
from upscaled_server.media.planes import Rows, join_alpha, over_white, split_alpha, to_bits, to_rgb
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

    @property
    def resizes(self) -> bool:
        return self._resampler is not None

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

    Alpha is one of three: resampled beside the network (`alpha`), enlarged by it as colour is
    (`network_alpha` resizes its result), or not there. Its methods block for milliseconds: call them in a
    thread, unless it `passes_on`. `prepare` may run beside `push`.
    """

    def __init__(
        self,
        resizer: Resizer,
        alpha: AlphaTrack | None,
        *,
        flatten: bool,
        network_alpha: Resizer | None = None,
        correction: ColourCorrection | None = None,
    ) -> None:
        self._resizer = resizer
        self._alpha = alpha
        self._network_alpha = network_alpha
        self._flatten = flatten
        self._correction = correction
        self._colour = RowBuffer()
        self._enlarged_alpha = RowBuffer()

    @property
    def passes_on(self) -> bool:
        """Whether rows go through as they are, in less time than a thread would take to wake up."""
        changes = (self._alpha, self._network_alpha, self._correction)
        return not self._flatten and not self._resizer.resizes and all(each is None for each in changes)

    def prepare(self, rows: Rows) -> tuple[Rows, ...]:
        """Decoded rows as the RGB that the network takes, one array for each image that goes through it:
        colour, and alpha where it does too."""
        alpha = None
        if self._flatten:
            rows = over_white(rows)
        elif self._network_alpha is not None or self._alpha is not None:
            rows, alpha = split_alpha(rows)
        if self._correction is not None:
            self._correction.keep(rows)
        if alpha is not None and self._network_alpha is not None:
            return to_rgb(rows), to_rgb(alpha)
        if alpha is not None and self._alpha is not None:
            self._alpha.keep(alpha)
        return (to_rgb(rows),)

    def push(self, strips: tuple[Rows, ...]) -> Rows | None:
        """The rows of the output that strips of the network's rows complete: for each image that went
        through it the same rows, RGB, or one plane for grey and for alpha."""
        colour = strips[0] if self._correction is None else self._correction.push(strips[0])
        colour = self._resizer.push(colour)
        if self._network_alpha is None:
            return self._with_alpha(colour)
        # A correction gives colour later than it takes it.
        self._colour.append(colour)
        self._enlarged_alpha.append(self._network_alpha.push(strips[1]))
        count = min(self._colour.rows, self._enlarged_alpha.rows)
        return join_alpha(self._colour.take(count), self._enlarged_alpha.take(count)) if count else None

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
