"""What good callers ask for. Each request returns what came of it, and raises what must not come."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
from google.api import httpbody_pb2

from tests.e2e.keyed import FAST
from tests.soak import pictures
from tests.soak.caller import DEADLINE_SECONDS, Caller, Wrong, expecting
from tests.soak.pictures import Picture
from upscaled import CallCancelledError, Chunk, Done
from upscaled.v1 import blobs_pb2, blobs_pb2_grpc

_OPTIONS: Sequence[dict[str, Any]] = (
    {},
    {"format": "jpeg", "quality": 80},
    {"format": "webp"},
    {"scale": 2},
    {"scale": 2.5, "format": "tiff"},
    {"width": 64},
)
_SLOW_SECONDS = 0.1
_MOST_SLOW_EVENTS = 40
_SECONDS_OF_WRITING = 0.05


def enlarge(caller: Caller, chance: random.Random) -> str:
    picture, options = _chosen(chance)
    result = caller.client.upscale(picture.data, model=FAST, **options)
    _check(caller, picture, options, result.data)
    if not options and (result.width, result.height) != (picture.width * 4, picture.height * 4):
        raise Wrong(f"{picture.name}: enlarged to {result.width}x{result.height}")
    return "OK"


def stream(caller: Caller, chance: random.Random) -> str:
    picture, options = _chosen(chance)
    events = list(caller.client.upscale_stream(picture.data, model=FAST, **options))
    if not isinstance(events[-1], Done):
        raise Wrong(f"{picture.name}: the stream ended without its result")
    _check(caller, picture, options, b"".join(each.data for each in events if isinstance(each, Chunk)))
    return "OK"


def stream_tiles(caller: Caller, chance: random.Random) -> str:
    picture = chance.choice(pictures.good())
    events = caller.client.upscale_stream(picture.data, model=FAST, tiles=True, omit_file=True)
    if not isinstance(list(events)[-1], Done):
        raise Wrong(f"{picture.name}: the tiles ended without their result")
    return "OK"


def slow_reader(caller: Caller, chance: random.Random) -> str:
    """Takes its time after each event, for a while."""
    picture = pictures.noise(200, 200)
    parts = []
    for number, event in enumerate(caller.client.upscale_stream(picture.data, model=FAST)):
        if number < _MOST_SLOW_EVENTS:
            time.sleep(chance.random() * _SLOW_SECONDS)
        if isinstance(event, Chunk):
            parts.append(event.data)
    _check(caller, picture, {}, b"".join(parts))
    return "OK"


def leave(caller: Caller, chance: random.Random) -> str:
    """Goes away after some of the events."""
    picture = pictures.noise(chance.choice((120, 260)), 200)
    with caller.client.upscale_stream(picture.data, model=FAST) as events:
        for _ in range(chance.randrange(4)):
            next(events)
    return "left"


def job(caller: Caller, chance: random.Random) -> str:
    """With a callback; waited for, and read."""
    picture, options = _chosen(chance)
    made = caller.client.jobs.create(picture.data, model=FAST, callback_url=caller.callbacks, **options)
    caller.told.append(made.id)
    made.wait(DEADLINE_SECONDS)
    _check(caller, picture, options, made.read())
    return "OK"


def cancelled_job(caller: Caller, chance: random.Random) -> str:
    """Cancelled soon; then deleted, and gone."""
    picture = pictures.noise(120, 200)
    made = caller.client.jobs.create(picture.data, model=FAST, priority="batch")
    time.sleep(chance.random() * 0.05)
    made.cancel()
    with suppress(CallCancelledError):  # it may have succeeded before
        made.wait(DEADLINE_SECONDS)
    made.delete()
    with expecting(grpc.StatusCode.NOT_FOUND):
        caller.client.jobs.get(made.id)
    return "cancelled"


def upload(caller: Caller, chance: random.Random) -> str:
    picture, options = _chosen(chance)
    source = caller.client.inputs.upload(picture.data)
    _check(caller, picture, options, caller.client.upscale(source, model=FAST, **options).data)
    return "OK"


def cut_upload(caller: Caller, chance: random.Random) -> str:
    """Goes away in the middle of an upload, asks how much has come, and sends the rest."""
    picture, options = _chosen(chance)
    stub, data = blobs_pb2_grpc.BlobsStub(caller.channel), picture.data
    more = {"metadata": caller.metadata, "timeout": DEADLINE_SECONDS}
    request = blobs_pb2.CreateInputRequest(size_bytes=len(data), sha256=hashlib.sha256(data).digest())
    made = stub.CreateInput(request, **more)
    _begin_to_write(stub, made.id, data[: chance.randrange(1, len(data))], more)
    status = stub.QueryWriteStatus(blobs_pb2.QueryWriteStatusRequest(input_id=made.id), **more)
    done = stub.WriteInput(_rest(made.id, data, status.committed_size_bytes), **more)
    if not done.complete:
        raise Wrong(f"{picture.name}: the upload is not complete with its last byte")
    _check(caller, picture, options, caller.client.upscale(input_id=made.id, model=FAST, **options).data)
    return "OK"


def _begin_to_write(stub: Any, input_id: str, data: bytes, more: dict[str, Any]) -> None:
    left = threading.Event()

    def messages() -> Iterator[blobs_pb2.WriteInputRequest]:
        yield _message(input_id, data, 0)
        left.wait(DEADLINE_SECONDS)

    call = stub.WriteInput.future(messages(), **more)
    time.sleep(_SECONDS_OF_WRITING)
    call.cancel()
    left.set()
    if call.code() is not grpc.StatusCode.CANCELLED:
        raise Wrong(f"an upload was answered in its middle with {call.code().name}: {call.details()}")


def _rest(input_id: str, data: bytes, offset: int) -> Iterator[blobs_pb2.WriteInputRequest]:
    message = _message(input_id, data[offset:], offset)
    message.finish = True
    yield message


def _message(input_id: str, data: bytes, offset: int) -> blobs_pb2.WriteInputRequest:
    return blobs_pb2.WriteInputRequest(
        input_id=input_id, offset=offset, content=httpbody_pb2.HttpBody(data=data)
    )


def stored(caller: Caller, chance: random.Random) -> str:
    """Has the result stored, and downloads it whole and from the middle on."""
    picture, options = _chosen(chance)
    result = caller.client.upscale(picture.data, model=FAST, delivery="url", **options)
    data = caller.client.outputs.read(result)
    _check(caller, picture, options, data)
    offset = chance.randrange(len(data))
    request = blobs_pb2.DownloadOutputRequest(output_id=result.output.id, offset=offset)
    bodies = blobs_pb2_grpc.BlobsStub(caller.channel).DownloadOutput(
        request, metadata=caller.metadata, timeout=DEADLINE_SECONDS
    )
    if b"".join(body.data for body in bodies) != data[offset:]:
        raise Wrong(f"{picture.name}: other bytes from {offset} on")
    return "OK"


def look(caller: Caller, chance: random.Random) -> str:
    """Asks what costs no work."""
    client = caller.client
    questions = (client.server_info, client.models.list, client.usage, lambda: next(client.jobs.list(), None))
    chance.choice(questions)()
    return "OK"


def _chosen(chance: random.Random) -> tuple[Picture, dict[str, Any]]:
    return chance.choice(pictures.good()), chance.choice(_OPTIONS)


def _check(caller: Caller, picture: Picture, options: dict[str, Any], data: bytes) -> None:
    caller.known.check(f"{picture.name} {options}", data)
