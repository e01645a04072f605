"""From the decoded image to rows of the output: through the network pass by pass, resampled, in the output's
colour space."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

from upscaled_server.media.codec import CodecHost, Converter, DecodedImage
from upscaled_server.media.correction import ColourCorrection
from upscaled_server.media.planes import Rows
from upscaled_server.pipeline.abreast import Strips
from upscaled_server.pipeline.ahead import ahead
from upscaled_server.pipeline.events import Stage
from upscaled_server.pipeline.finish import AlphaTrack, Finisher, Resizer
from upscaled_server.pipeline.layout import Layout
from upscaled_server.pipeline.network import reader, through_network
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pool.run import PoolRun

_T = TypeVar("_T")
_Rows = TypeVar("_Rows")

# Rows read from the decoder at once when the network does not ask for fewer.
_READ_ROWS = 256


async def output_rows(
    image: DecodedImage,
    runs: Sequence[PoolRun],
    layout: Layout,
    clock: StageClock,
    *,
    converter: Converter | None,
    executor: Executor,
) -> AsyncGenerator[Rows, None]:
    """Rows of the output, from the top. Close the generator to stop."""
    finisher = _finisher(layout)

    async def finished(function: Callable[[_Rows], _T], rows: _Rows) -> _T:
        if finisher.passes_on:
            return function(rows)
        return await asyncio.get_running_loop().run_in_executor(executor, function, rows)

    async def read_decoded(wanted: int) -> Strips | None:
        with clock.during(Stage.DECODE):
            rows = await image.read(min(wanted, _READ_ROWS))
        return None if rows is None else await finished(finisher.prepare, rows)

    count = len(layout.passes)
    network_rows = through_network(read_decoded, runs[::count], clock)
    for number in range(1, count):
        network_rows = through_network(reader(network_rows), runs[number::count], clock)
    async with ahead(network_rows) as strips:
        async for strip in strips:
            with clock.during(Stage.RESAMPLE):
                rows = await finished(finisher.push, strip)
                if rows is not None and converter is not None:
                    rows = await converter.convert(rows)
            if rows is not None:
                yield rows


@asynccontextmanager
async def back_converter(codec: CodecHost, layout: Layout) -> AsyncIterator[Converter | None]:
    """What brings the output back into the input's colour space; None where it is sRGB."""
    icc, size = layout.metadata.icc, layout.size
    if icc is None or not layout.converts_back:
        yield None
        return
    async with codec.converter(
        icc,
        width=size.width,
        height=size.height,
        channels=layout.info.channels,
        has_alpha=layout.has_alpha,
        bits=layout.bits,
    ) as converter:
        yield converter


def _finisher(layout: Layout) -> Finisher:
    info, size, bits = layout.info, layout.size, layout.bits

    def resizer(planes: int) -> Resizer:
        width, height, factor = layout.network_width, layout.network_height, layout.network_factor
        return Resizer(width, height, factor, size, planes, bits)

    beside = layout.has_alpha and not layout.network_alpha
    return Finisher(
        resizer(info.channels),
        AlphaTrack(info.width, info.height, size, bits) if beside else None,
        flatten=info.has_alpha and not layout.has_alpha,
        network_alpha=resizer(1) if layout.network_alpha else None,
        correction=ColourCorrection(info.width, info.height, layout.network_factor, info.channels, bits)
        if layout.options.keep_colors
        else None,
    )
