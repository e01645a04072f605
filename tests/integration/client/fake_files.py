"""The services Blobs and Account of the fake server. Uploads and downloads break where they are told to."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from upscaled.v1 import account_pb2, account_pb2_grpc, blobs_pb2, blobs_pb2_grpc

PIECE = 64 * 1024


@dataclass
class KeptInput:
    request: blobs_pb2.CreateInputRequest
    data: bytearray = field(default_factory=bytearray)
    complete: bool = False


class FakeFiles(blobs_pb2_grpc.BlobsServicer):
    def __init__(self, server: Any) -> None:
        self.server = server
        self.inputs: dict[str, KeptInput] = {}
        self.outputs: dict[str, bytes] = {}
        self.cuts: deque[int] = deque()  # an upload or download breaks after so many bytes
        self.lost = 0  # bytes before the break that were not committed
        self.discards = 0  # how often a complete upload is thrown away
        self.wrong_bytes = 0  # how many downloads have a wrong byte
        self.announces = True
        self.sent = 0  # bytes of inputs that came in, over all attempts

    async def CreateInput(self, request: Any, context: Any) -> Any:
        self.server.record("CreateInput", context, request)
        if failure := self.server.next_failure("CreateInput"):
            await self.server.abort(context, failure)
        input_id = f"in-{hashlib.sha256(request.request_id.encode()).hexdigest()[:8]}"
        kept = self.inputs.setdefault(input_id, KeptInput(request))
        if kept.request != request:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "another file under this request_id")
        answer = blobs_pb2.Input(id=input_id)
        answer.expire_time.FromSeconds(1_800_000_000)
        return answer

    async def WriteInput(self, requests: AsyncIterator[Any], context: Any) -> Any:
        call = self.server.record("WriteInput", context)
        cut = self.cuts.popleft() if self.cuts else None
        kept: KeptInput | None = None
        at = arrived = 0
        async for message in requests:
            data = message.content.data
            assert len(data) <= 1024 * 1024
            if kept is None:
                call.request = message
                kept, at = self.inputs[message.input_id], message.offset
                if kept.complete:
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the input is complete")
                if at > len(kept.data):
                    await context.abort(grpc.StatusCode.OUT_OF_RANGE, "beyond the committed size")
            self.sent += len(data)
            if cut is not None and arrived + len(data) > cut:
                kept.data[at:] = data[: cut - arrived]
                if self.lost:
                    del kept.data[-self.lost :]
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            kept.data[at:] = data
            at += len(data)
            arrived += len(data)
            if message.finish:
                kept.complete = True
        assert kept is not None
        found = hashlib.sha256(kept.data).digest()
        if kept.complete and (self.discards or found != kept.request.sha256):
            self.discards = max(0, self.discards - 1)
            kept.data.clear()
            kept.complete = False
            await context.abort(grpc.StatusCode.DATA_LOSS, "discarded")
        return self._status(kept)

    async def QueryWriteStatus(self, request: Any, context: Any) -> Any:
        self.server.record("QueryWriteStatus", context, request)
        return self._status(self.inputs[request.input_id])

    async def DownloadOutput(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.server.record("DownloadOutput", context, request)
        if failure := self.server.next_failure("DownloadOutput"):
            await self.server.abort(context, failure)
        if request.output_id not in self.outputs:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no output {request.output_id}")
        data = self.outputs[request.output_id]
        if self.announces:
            digest = hashlib.sha256(data).hexdigest()
            await context.send_initial_metadata(
                (("x-upscaled-size-bytes", str(len(data))), ("x-upscaled-sha256", digest))
            )
        if self.wrong_bytes:
            self.wrong_bytes -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        cut = self.cuts.popleft() if self.cuts else None
        end = len(data) if cut is None else min(len(data), request.offset + cut)
        for at in range(request.offset, end, PIECE):
            yield HttpBody(data=data[at : min(at + PIECE, end)])
        if cut is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async def SignOutput(self, request: Any, context: Any) -> Any:
        self.server.record("SignOutput", context, request)
        answer = blobs_pb2.SignOutputResponse(url=f"http://example/{request.output_id}?signature=s")
        answer.expire_time.FromSeconds(1_700_003_600)
        return answer

    def _status(self, kept: KeptInput) -> Any:
        return blobs_pb2.WriteStatus(
            committed_size_bytes=len(kept.data),
            complete=kept.complete,
            sha256=hashlib.sha256(kept.data).digest() if kept.complete else b"",
        )


class FakeAccount(account_pb2_grpc.AccountServicer):
    def __init__(self, server: Any) -> None:
        self.server = server
        self.limited = True

    async def GetUsage(self, request: Any, context: Any) -> Any:
        self.server.record("GetUsage", context, request)
        usage = account_pb2.Usage(
            caller="anna",
            start_time=request.start_time,
            end_time=request.end_time,
            credits_used=12.5,
            stored_bytes=3_000_000,
            models=[
                account_pb2.ModelUsage(
                    model="real-esrgan-x4-plus", requests=7, output_megapixels=3.5, credits=12.5
                )
            ],
        )
        if self.limited:
            usage.credits_monthly, usage.credits_remaining = 100, 87.5
        return usage

    async def GetWebhookSecrets(self, request: Any, context: Any) -> Any:
        self.server.record("GetWebhookSecrets", context, request)
        return account_pb2.WebhookSecrets(secrets=["whsec_bmV3", "whsec_b2xk"])
