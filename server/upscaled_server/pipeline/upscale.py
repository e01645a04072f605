"""One image's way, step by step: settle, fetch, decode, lay out, queue, infer, finish, deliver, account.

Rows stream through the middle: while the network works on one strip, the one before is being encoded and
the one before that is on its way to the caller. No step holds a whole image.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeVar

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import Overloaded
from upscaled_server.intake.upload import UploadMemory, gather
from upscaled_server.media.codec import CodecHost, Converter, DecodedImage, DecodeLimits
from upscaled_server.media.correction import ColourCorrection
from upscaled_server.media.encode import open_encoder
from upscaled_server.media.info import ImageInfo
from upscaled_server.media.planes import Rows
from upscaled_server.pipeline.abreast import Strips
from upscaled_server.pipeline.ahead import ahead
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.deliver import Delivery
from upscaled_server.pipeline.events import Done, Event, Progress, Provenance, Stage
from upscaled_server.pipeline.finish import AlphaTrack, Finisher, Resizer
from upscaled_server.pipeline.layout import Layout, lay_out
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.network import reader, through_network
from upscaled_server.pipeline.queueing import Queueing
from upscaled_server.pipeline.request import Bytes, Request, TileEncoding
from upscaled_server.pipeline.settle import settle
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pipeline.tiles import TileCutter
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.run import PoolRun

_T = TypeVar("_T")

# Rows read from the decoder at once when the network does not ask for fewer.
_READ_ROWS = 256


class Upscaling:
    """Runs requests. One object serves all of them at once."""

    def __init__(
        self,
        catalogue: Catalogue,
        codec: CodecHost,
        pool: Pool,
        *,
        limits: LimitSettings,
        decode_limits: DecodeLimits,
        executor: Executor,
    ) -> None:
        self._catalogue = catalogue
        self._codec = codec
        self._pool = pool
        self._limits = limits
        self._decode_limits = decode_limits
        self._executor = executor
        self._uploads = UploadMemory(limits.max_uploading_bytes)
        self._running = 0

    async def run(self, request: Request, deadline: Deadline) -> AsyncGenerator[Event, None]:
        """The events of one request, see `events.py` for their order. Close the generator to stop the work.

        Raises the domain's errors, `Overloaded` before anything is read where too much is going on already;
        nothing of the work is left behind when it does.
        """
        with self._counted():
            async with aclosing(self._run(request, deadline)) as events:
                async for event in events:
                    yield event

    async def _run(self, request: Request, deadline: Deadline) -> AsyncGenerator[Event, None]:
        clock = StageClock()
        settled = settle(request.options, self._catalogue, self._limits, self._pool.backends, request.caller)
        decode_limits = self._decode_limits_of(request.caller)
        data = await self._fetch(request, clock)
        deadline.check("decoding")
        if request.validate_only:
            info = await self._probe(data, decode_limits, clock)
            layout = lay_out(settled, info, self._limits, self._pool)
            yield layout.to_plan(self._pool.waiting)
            yield _done(layout, clock)
            return
        async with AsyncExitStack() as stack:
            with clock.during(Stage.DECODE):
                image = await stack.enter_async_context(self._codec.decode(data, decode_limits))
            del data
            layout = lay_out(settled, image.info, self._limits, self._pool)
            yield layout.to_plan(self._pool.waiting)
            deadline.check("the network")
            opening = self._pool.open_chain(
                settled.variant,
                layout.runs,
                layout.bits,
                planes=layout.run_planes,
                caller=request.caller.name,
                weight=request.caller.weight,
                priority="batch" if settled.options.priority is Priority.BATCH else "interactive",
                deadline=deadline.at,
            )
            queueing = Queueing(opening, stack)
            with clock.during(Stage.QUEUE):
                async with aclosing(queueing.positions()) as positions:
                    async for position in positions:
                        yield Progress(Stage.QUEUE, 0.0, 0, layout.size.height, queue_position=position)
            runs = queueing.runs
            converter = await stack.enter_async_context(self._converter(layout))
            yield Progress(Stage.INFER, 0.0, 0, layout.size.height)
            delivery = stack.enter_context(self._delivery(layout, clock))
            for event in delivery.begin():
                yield event
            rows = await stack.enter_async_context(aclosing(self._output_rows(image, runs, layout, clock)))
            async for strip in rows:
                deadline.check("the rest of the image")
                if converter is not None:
                    with clock.during(Stage.RESAMPLE):
                        strip = await converter.convert(strip)
                async for event in delivery.push(strip):
                    yield event
            async for event in delivery.finish():
                yield event
        yield _done(layout, clock, _provenance(layout, runs), delivery)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._running >= self._limits.max_calls:
            raise Overloaded(
                "too many images at once",
                retry_after_seconds=max(1.0, self._pool.stats.seconds_pending / self._limits.max_calls),
                limit=self._limits.max_calls,
                actual=self._running + 1,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _fetch(self, request: Request, clock: StageClock) -> bytes | bytearray:
        source = request.source
        if isinstance(source, Bytes):
            return source.data
        with clock.during(Stage.FETCH):
            return await gather(
                source.chunks,
                max_bytes=self._limits.max_input_bytes,
                idle_seconds=self._limits.upload_idle_seconds,
                announced_bytes=source.announced_bytes,
                memory=self._uploads,
            )

    @asynccontextmanager
    async def _converter(self, layout: Layout) -> AsyncIterator[Converter | None]:
        """What brings the output back into the input's colour space; None where it is sRGB."""
        icc, size = layout.metadata.icc, layout.size
        if icc is None or not layout.converts_back:
            yield None
            return
        async with self._codec.converter(
            icc,
            width=size.width,
            height=size.height,
            channels=layout.info.channels,
            has_alpha=layout.has_alpha,
            bits=layout.bits,
        ) as converter:
            yield converter

    def _decode_limits_of(self, caller: Caller) -> DecodeLimits:
        limits = self._decode_limits
        return replace(limits, max_pixels=caller.pixels_within(limits.max_pixels))

    async def _probe(self, data: bytes | bytearray, limits: DecodeLimits, clock: StageClock) -> ImageInfo:
        with clock.during(Stage.DECODE):
            return await self._codec.probe(data, limits)

    async def _output_rows(
        self, image: DecodedImage, runs: Sequence[PoolRun], layout: Layout, clock: StageClock
    ) -> AsyncGenerator[Rows, None]:
        """Decoded rows through the network, pass by pass, to rows of the output."""
        finisher = _finisher(layout)

        async def read_decoded(wanted: int) -> Strips | None:
            with clock.during(Stage.DECODE):
                rows = await image.read(min(wanted, _READ_ROWS))
            return None if rows is None else await self._in_thread(finisher.prepare, rows)

        count = len(layout.passes)
        network_rows = through_network(read_decoded, runs[::count], clock)
        for number in range(1, count):
            network_rows = through_network(reader(network_rows), runs[number::count], clock)
        async with ahead(network_rows) as strips:
            async for strip in strips:
                with clock.during(Stage.RESAMPLE):
                    rows = await self._in_thread(finisher.push, strip)
                if rows is not None:
                    yield rows

    def _delivery(self, layout: Layout, clock: StageClock) -> Delivery:
        options, size = layout.options, layout.size
        encoder = cutter = None
        if not options.omit_file:
            encoder = open_encoder(
                options.format,
                width=size.width,
                height=size.height,
                channels=layout.info.channels,
                has_alpha=layout.has_alpha,
                bits=layout.bits,
                options=layout.encode_options,
                metadata=layout.metadata,
                executor=self._executor,
            )
        if options.tiles is not None:
            icc = layout.metadata.icc
            cutter = TileCutter(size.width, size.height, options.tiles, self._executor, icc)
        encoding = TileEncoding.PNG if options.tiles is None else options.tiles.encoding
        return Delivery(encoder, cutter, encoding, size.height, clock)

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


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


def _done(
    layout: Layout, clock: StageClock, provenance: Provenance | None = None, delivery: Delivery | None = None
) -> Done:
    """The summary. Without a delivery (`validate_only`) or a file (`omit_file`) there is no size and no
    hash."""
    has_file = delivery is not None and not layout.options.omit_file
    return Done(
        plan=layout.to_plan(0),
        settings=replace(
            layout.options,
            bit_depth=layout.bits,
            backend=layout.options.backend if provenance is None else provenance.backend,
            file_name=layout.file_name.rpartition(".")[0],
        ),
        seconds=clock.seconds,
        total_seconds=clock.total,
        provenance=provenance,
        size_bytes=delivery.size_bytes if delivery is not None and has_file else None,
        sha256=delivery.sha256 if delivery is not None and has_file else None,
        warnings=layout.remarks,
    )


def _provenance(layout: Layout, runs: Sequence[PoolRun]) -> Provenance:
    made_by = runs[0].provenance
    return Provenance(
        model=made_by.model,
        backend=made_by.backend,
        precision=made_by.precision,
        device=runs[0].device.kind,
        weights_sha256=made_by.weights.sha256,
        weights_source=made_by.weights.described,
        execution=json.dumps([plan.to_dict() for plan in layout.passes], separators=(",", ":")),
    )
