"""One image's way, step by step: settle, fetch, decode, lay out, reserve credits, queue, infer, finish,
deliver, charge.

Rows stream through the middle: while the network works on one strip, the one before is being encoded and
the one before that is on its way to the caller. No step holds a whole image.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager
from dataclasses import replace

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import Overloaded
from upscaled_server.media.codec import CodecHost, DecodeLimits
from upscaled_server.media.encode import open_encoder
from upscaled_server.media.info import ImageInfo
from upscaled_server.pipeline.charging import Charging
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.deliver import Delivery
from upscaled_server.pipeline.events import Event, Progress, Stage
from upscaled_server.pipeline.fetch import Fetch, Sources
from upscaled_server.pipeline.handed_over import HandedOver
from upscaled_server.pipeline.layout import Layout, lay_out
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.queueing import Queueing
from upscaled_server.pipeline.request import Request, TileEncoding
from upscaled_server.pipeline.rows import back_converter, output_rows
from upscaled_server.pipeline.settle import Settled, settle
from upscaled_server.pipeline.stages import StageClock
from upscaled_server.pipeline.summary import done
from upscaled_server.pipeline.tiles import TileCutter
from upscaled_server.pool.opening import OpeningChain
from upscaled_server.pool.pool import Pool
from upscaled_server.telemetry.metrics import note_image


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
        charging: Charging,
        sources: Sources,
    ) -> None:
        self._catalogue = catalogue
        self._codec = codec
        self._pool = pool
        self._limits = limits
        self._decode_limits = decode_limits
        self._executor = executor
        self._fetch = Fetch(limits, sources)
        self._charging = charging
        self._running = 0
        self._coming = 0

    async def run(self, request: Request, deadline: Deadline) -> AsyncGenerator[Event, None]:
        """The events of one request, see `events.py` for their order. Close the generator to stop the work.

        Raises the domain's errors, `Overloaded` before anything is read where too much is going on already;
        nothing of the work is left behind when it does.
        """
        with self._counted(), StageClock() as clock:
            async with aclosing(self._run(request, deadline, clock)) as events:
                async for event in events:
                    yield event

    async def _run(
        self, request: Request, deadline: Deadline, clock: StageClock
    ) -> AsyncGenerator[Event, None]:
        settled = settle(request.options, self._catalogue, self._limits, self._pool.backends, request.caller)
        decode_limits = self._decode_limits_of(request.caller)
        data = await self._fetch.bytes_of(request, deadline, clock)
        if request.fetch_seconds:
            clock.add(Stage.FETCH, request.fetch_seconds)
        deadline.check("decoding")
        if request.validate_only:
            info = await self._probe(data, decode_limits, clock)
            layout = self._lay_out(request, settled, info)
            opening = self._opening(layout, request, deadline)
            yield layout.to_plan(self._pool.waiting, opening.wait_seconds)
            yield done(layout, clock, await self._charging.bill(request))
            return
        async with AsyncExitStack() as stack:
            coming = stack.enter_context(self._coming_to_queue(settled))
            entry = await self._charging.entry_of(request, settled, data)
            with clock.during(Stage.DECODE):
                owner, batch = request.caller.name, settled.options.priority is Priority.BATCH
                decoding = self._codec.decode(data, decode_limits, owner=owner, batch=batch)
                image = await stack.enter_async_context(decoding)
            del data
            layout = self._lay_out(request, settled, image.info)
            handed_over = HandedOver(layout.size, count_file=request.handed_over is None)
            tab = await stack.enter_async_context(self._charging.tab(request, layout, entry, handed_over))
            opening = self._opening(layout, request, deadline)
            plan = layout.to_plan(self._pool.waiting, opening.wait_seconds)
            coming.close()
            # No more images than have a turn to be decoded hold a place that they cannot use yet. It is asked
            # for after memory to decode with has been given, so that none waits for the other's.
            queueing = await stack.enter_async_context(Queueing(opening))
            with clock.during(Stage.DECODE):
                await image.ready()
            yield plan
            deadline.check("the network")
            with clock.during(Stage.QUEUE):
                async with aclosing(queueing.standings()) as standings:
                    async for now in standings:
                        height = layout.size.height
                        yield Progress(Stage.QUEUE, 0.0, 0, height, now.remaining_seconds, now.position)
            runs = queueing.runs
            converter = await stack.enter_async_context(back_converter(self._codec, layout))
            yield Progress(Stage.INFER, 0.0, 0, layout.size.height)
            delivery = stack.enter_context(self._delivery(layout, clock, handed_over))
            for event in delivery.begin():
                yield event
                handed_over.took(event)
            making = output_rows(image, runs, layout, clock, converter=converter, executor=self._executor)
            rows = await stack.enter_async_context(aclosing(making))
            async for strip in rows:
                deadline.check("the rest of the image")
                async for event in delivery.push(strip):
                    yield event
                    handed_over.took(event)
            async for event in delivery.finish():
                yield event
                handed_over.took(event)
            if request.handed_over is not None:
                with clock.during(Stage.STORE):
                    writing_before = await request.handed_over()
                clock.add(Stage.STORE, writing_before)
            bill = await tab.pay()
        note_image(layout.options.model, layout.size.width * layout.size.height, clock.seconds.items())
        yield done(layout, clock, bill, runs=runs, delivery=delivery)

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

    @contextmanager
    def _coming_to_queue(self, settled: Settled) -> Iterator[ExitStack]:
        """Refuses what the queue would refuse, before it is decoded. Close what it gives when the image
        enters the queue."""
        batch = settled.options.priority is Priority.BATCH
        self._pool.check_queue(self._coming, batch=batch)
        with ExitStack() as stack:
            self._coming += 1
            stack.callback(self._came)
            yield stack

    def _came(self) -> None:
        self._coming -= 1

    def _lay_out(self, request: Request, settled: Settled, info: ImageInfo) -> Layout:
        return self._charging.priced(lay_out(settled, info, self._limits, self._pool), request)

    def _opening(self, layout: Layout, request: Request, deadline: Deadline) -> OpeningChain:
        caller = request.caller
        return self._pool.open_chain(
            layout.settled.variant,
            layout.runs,
            layout.bits,
            planes=layout.run_planes,
            caller=caller.name,
            weight=caller.weight,
            priority="batch" if layout.options.priority is Priority.BATCH else "interactive",
            deadline=deadline.at,
        )

    def _decode_limits_of(self, caller: Caller) -> DecodeLimits:
        limits = self._decode_limits
        return replace(limits, max_pixels=caller.pixels_within(limits.max_pixels))

    async def _probe(self, data: bytes | bytearray, limits: DecodeLimits, clock: StageClock) -> ImageInfo:
        with clock.during(Stage.DECODE):
            return await self._codec.probe(data, limits)

    def _delivery(self, layout: Layout, clock: StageClock, handed_over: HandedOver) -> Delivery:
        options, size = layout.options, layout.size
        encoder = cutter = None
        if not options.omit_file:
            encoder = handed_over.watched(
                open_encoder(
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
            )
        if options.tiles is not None:
            icc = layout.metadata.icc
            cutter = TileCutter(size.width, size.height, options.tiles, self._executor, icc)
        encoding = TileEncoding.PNG if options.tiles is None else options.tiles.encoding
        return Delivery(encoder, cutter, encoding, size.height, clock)
