"""A real gRPC server in a thread; its servicers record what they were asked and fail as often as told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from fake_files import FakeAccount, FakeFiles
from fake_jobs import FakeJobs
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from upscaled.v1 import (
    account_pb2_grpc,
    blobs_pb2_grpc,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    options_pb2,
    result_pb2,
    server_pb2,
    server_pb2_grpc,
    upscaler_pb2,
    upscaler_pb2_grpc,
)

FILE = b"\x89PNG the file " * 200_000  # 2.8 MB: several chunks
CHUNK = 1024 * 1024


@dataclass
class Failure:
    """A status to end a call with, and the details beside it."""

    code: grpc.StatusCode
    message: str = "no"
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    quota: bool = False
    violations: tuple[tuple[str, str], ...] = ()
    after_events: int = 0  # of a stream

    def details(self) -> bytes:
        parts: list[Any] = []
        if self.reason:
            parts.append(
                error_details_pb2.ErrorInfo(reason=self.reason, domain="upscaled.v1", metadata=self.metadata)
            )
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(round(self.retry_after * 1000))
            parts.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if self.quota:
            parts.append(error_details_pb2.QuotaFailure())
        if self.violations:
            parts.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=f, description=d)
                        for f, d in self.violations
                    ]
                )
            )
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for part in parts:
            packed = any_pb2.Any()
            packed.Pack(part)
            status.details.append(packed)
        return status.SerializeToString()


@dataclass
class Call:
    method: str
    metadata: dict[str, str]
    time_remaining: float | None
    at: float
    request: Any = None
    image: bytes = b""
    cancelled: threading.Event = field(default_factory=threading.Event)


class FakeServer:
    """`calls` is what came in; `fail` prepares failures, which must all be used up at the end of the test."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.file = FILE
        self.limits = server_pb2.Limits(
            max_input_pixels=50_000_000,
            max_output_pixels=400_000_000,
            max_input_bytes=64 << 20,
            max_inline_bytes=32 << 20,
            max_message_bytes=64 << 20,
        )
        self.plan = result_pb2.Plan(
            input_width=4, input_height=3, output_width=16, output_height=12, content_type="image/png"
        )
        self.hang_after_events: int | None = None  # the stream stops there until it is cancelled
        self.without_done = False
        self.wrong_digest = False
        self.wrong_size = False
        self.gap = False
        self.stored = False
        self.tiles = 0
        self.target = ""
        self.jobs = FakeJobs(self)
        self.files = FakeFiles(self)
        self.account = FakeAccount(self)
        self._failures: dict[str, deque[Failure]] = defaultdict(deque)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake server")
        self._server: grpc.aio.Server | None = None

    def fail(self, method: str, failure: Failure, times: int = 1) -> None:
        self._failures[method].extend([failure] * times)

    @property
    def unused_failures(self) -> dict[str, int]:
        return {method: len(left) for method, left in self._failures.items() if left}

    def called(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def start(self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(address, credentials), self._loop).result(10)

    async def _start(self, address: str, credentials: grpc.ServerCredentials | None) -> None:
        size = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]
        self._server = grpc.aio.server(options=size)
        upscaler_pb2_grpc.add_UpscalerServicer_to_server(_Upscaler(self), self._server)
        models_pb2_grpc.add_ModelsServicer_to_server(_Models(self), self._server)
        server_pb2_grpc.add_ServerServicer_to_server(_Server(self), self._server)
        jobs_pb2_grpc.add_JobsServicer_to_server(self.jobs, self._server)
        blobs_pb2_grpc.add_BlobsServicer_to_server(self.files, self._server)
        account_pb2_grpc.add_AccountServicer_to_server(self.account, self._server)
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.target = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        await self._server.start()

    def stop(self) -> None:
        async def end() -> None:
            assert self._server is not None
            await self._server.stop(0)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # What the servicers share.

    def record(self, method: str, context: Any, request: Any = None) -> Call:
        metadata = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        call = Call(method, metadata, context.time_remaining(), self._loop.time(), request)
        self.calls.append(call)
        return call

    @contextlib.contextmanager
    def noting_cancellation(self, call: Call) -> Iterator[None]:
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            call.cancelled.set()
            raise

    def next_failure(self, method: str) -> Failure | None:
        return self._failures[method].popleft() if self._failures[method] else None

    async def abort(self, context: Any, failure: Failure) -> None:
        await context.abort(
            failure.code, failure.message, trailing_metadata=(("grpc-status-details-bin", failure.details()),)
        )

    def result(self, options: options_pb2.UpscaleOptions, request_id: str, *, inline: bool) -> Any:
        settings = options_pb2.UpscaleOptions()
        settings.CopyFrom(options)
        settings.model = options.model or "real-esrgan-x4-plus"
        settings.format = options.format or options_pb2.FORMAT_PNG
        return result_pb2.UpscaleResult(
            outputs=[
                result_pb2.Output(
                    id="out-1" if self.stored else "",
                    url="http://example/out-1" if self.stored else "",
                    file_name="out.png",
                    content_type="image/png",
                    width=self.plan.output_width,
                    height=self.plan.output_height,
                    size_bytes=len(self.file) + (1 if self.wrong_size else 0),
                    sha256=b"\0" * 32 if self.wrong_digest else hashlib.sha256(self.file).digest(),
                    data=self.file if inline and not self.stored else b"",
                )
            ],
            settings=settings,
            plan=self.plan,
            timings=result_pb2.Timings(
                total_seconds=1.5, stages=[result_pb2.StageTiming(stage=result_pb2.STAGE_INFER, seconds=1.0)]
            ),
            credits=result_pb2.Credits(charged=0.5, remaining=9.5),
            provenance=result_pb2.Provenance(server_version="1.2.3", backend="ncnn", precision="fp32"),
            request_id=request_id,
            warnings=["only the first frame was used"],
        )

    def events(self, start: upscaler_pb2.UpscaleStart) -> Iterable[result_pb2.UpscaleEvent]:
        event = result_pb2.UpscaleEvent
        yield event(plan=self.plan)
        yield event(
            progress=result_pb2.Progress(
                stage=result_pb2.STAGE_INFER, fraction=0.5, rows_done=6, rows_total=12, remaining_seconds=0.5
            )
        )
        for sequence in range(self.tiles if start.options.tiles.enabled else 0):
            yield event(
                tile=result_pb2.Tile(
                    sequence=sequence, y=sequence, width=16, height=1, encoding=start.options.tiles.encoding
                )
            )
        checked = start.validate_only
        if not (checked or self.stored or start.options.omit_file):
            for offset in range(0, len(self.file), CHUNK):
                moved = 1 if self.gap and offset else 0
                data = self.file[offset : offset + CHUNK]
                yield event(chunk=result_pb2.Chunk(offset=offset + moved, data=data))
        if not self.without_done:
            done = self.result(start.options, start.request_id, inline=False)
            if checked or start.options.omit_file:
                del done.outputs[:]
            yield event(done=done)


class _Upscaler(upscaler_pb2_grpc.UpscalerServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    async def Upscale(self, request: Any, context: Any) -> Any:
        call = self.fake.record("Upscale", context, request)
        call.image = request.source.image
        if failure := self.fake.next_failure("Upscale"):
            await self.fake.abort(context, failure)
        if self.fake.hang_after_events is not None:
            with self.fake.noting_cancellation(call):
                await asyncio.sleep(60)
        result = self.fake.result(request.options, request.request_id, inline=True)
        if request.validate_only:
            del result.outputs[:]
        return result

    async def UpscaleStream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        call = self.fake.record("UpscaleStream", context)
        failure = self.fake.next_failure("UpscaleStream")
        with self.fake.noting_cancellation(call):
            async for part in requests:
                if part.HasField("start"):
                    call.request = part.start
                else:
                    assert len(part.chunk) <= CHUNK
                    call.image += part.chunk
            for count, event in enumerate(self.fake.events(call.request)):
                if failure is not None and count == failure.after_events:
                    await self.fake.abort(context, failure)
                if count == self.fake.hang_after_events:
                    await asyncio.sleep(60)
                yield event


class _Models(models_pb2_grpc.ModelsServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.models = [
            models_pb2.Model(
                name="real-esrgan-x4-plus",
                aliases=["RealESRGAN_x4plus"],
                description="Photos, best quality.",
                scale=4,
                license="BSD-3-Clause",
                available=True,
                is_default=True,
                seconds_per_megapixel=155.0,
                weights=models_pb2.Weights(source="folder", precision="fp32"),
            ),
            models_pb2.Model(
                name="real-esrgan-animevideo-v3",
                description="Drawings, fast.",
                scale=4,
                license="BSD-3-Clause",
                available=True,
                seconds_per_megapixel=5.0,
            ),
        ]

    async def ListModels(self, request: Any, context: Any) -> Any:
        self.fake.record("ListModels", context, request)
        if failure := self.fake.next_failure("ListModels"):
            await self.fake.abort(context, failure)
        return models_pb2.ListModelsResponse(models=self.models)

    async def GetModel(self, request: Any, context: Any) -> Any:
        self.fake.record("GetModel", context, request)
        for model in self.models:
            if request.model in (model.name, *model.aliases):
                return model
        return await context.abort(grpc.StatusCode.NOT_FOUND, f"no model named {request.model!r}")


class _Server(server_pb2_grpc.ServerServicer):
    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake

    async def GetServerInfo(self, request: Any, context: Any) -> Any:
        self.fake.record("GetServerInfo", context, request)
        if failure := self.fake.next_failure("GetServerInfo"):
            await self.fake.abort(context, failure)
        return server_pb2.ServerInfo(
            version="1.2.3",
            limits=self.fake.limits,
            devices=[server_pb2.Device(id="cpu", name="a processor", backend="ncnn", cores=2, ready=True)],
            backends=["ncnn"],
            default_model="real-esrgan-x4-plus",
            unimplemented=["Jobs"],
        )
