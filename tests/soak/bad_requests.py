"""What bad callers ask for, and good ones by mistake: the status that each must get."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from tests.e2e.keyed import FAST
from tests.soak import pictures
from tests.soak.caller import Caller, Wrong, expecting
from upscaled import Client
from upscaled.v1 import upscaler_pb2, upscaler_pb2_grpc

_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_MARKER = b"CORPUS-MARKER-41"
_SIDE = 64  # of the answer; the network enlarges the whole picture all the same
_SECONDS = 30.0
_WRONG_OPTIONS: Sequence[dict[str, Any]] = (
    {"scale": -1.0},
    {"scale": math.nan},
    {"scale": 1e9},
    {"width": 64, "scale": 2.0},
    {"width": 2**31 - 1},
    {"format": "jpeg", "quality": 101},
    {"passes": 99},
    {"model": "no-such-model"},
    {"file_name": "../../etc/passwd\n"},
)
_INSIDE = ("http://127.0.0.1/", "http://169.254.169.254/latest/", "http://[::1]/", "ftp://10.0.0.1/a.png")
_NAMES = ("../../etc/passwd", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "a\r\nb", "x" * 5000, "\u202eid")


def hostile_file(caller: Caller, chance: random.Random) -> str:
    file = chance.choice(pictures.hostile())
    with expecting(*_REFUSED, *([] if file.refused else [grpc.StatusCode.OK])) as answer:
        result = caller.client.upscale(file.data, model=FAST, width=_SIDE)
        if _MARKER in result.data:
            raise Wrong(f"{file.name}: its marker came through")
    return answer.name


def wrong_key(caller: Caller, chance: random.Random) -> str:
    with (
        expecting(grpc.StatusCode.UNAUTHENTICATED) as answer,
        Client(
            caller.address, api_key=f"up_{chance.randbytes(20).hex()}", retries=0, timeout=_SECONDS
        ) as client,
    ):
        client.upscale(pictures.good()[0].data, model=FAST)
    return answer.name


def wrong_option(caller: Caller, chance: random.Random) -> str:
    options = {"model": FAST, **chance.choice(_WRONG_OPTIONS)}
    expected = (*_REFUSED, grpc.StatusCode.NOT_FOUND)
    with expecting(*expected) as answer:
        caller.client.upscale(chance.choice(pictures.good()).data, **options)
    return answer.name


def wrong_name(caller: Caller, chance: random.Random) -> str:
    client, name = caller.client, chance.choice(_NAMES)
    asks: Sequence[Callable[[], object]] = (
        lambda: client.jobs.get(name),
        lambda: client.outputs.read(name),
        lambda: client.outputs.sign(name),
        lambda: client.upscale(input_id=name, model=FAST),
        lambda: client.upscale(output_id=name, model=FAST),
    )
    with expecting(grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT) as answer:
        chance.choice(asks)()
    return answer.name


def address_inside(caller: Caller, chance: random.Random) -> str:
    """As the source, or as the receiver of a callback."""
    url = chance.choice(_INSIDE)
    with expecting(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED) as answer:
        if chance.random() < 0.5:
            caller.client.upscale(url=url, model=FAST)
        else:
            caller.client.jobs.create(pictures.good()[0].data, model=FAST, callback_url=url)
    return answer.name


def no_protobuf(caller: Caller, chance: random.Random) -> str:
    call = caller.channel.unary_unary("/upscaled.v1.Upscaler/Upscale")
    with expecting(grpc.StatusCode.INVALID_ARGUMENT) as answer:
        call(
            b"\xff\xff" + chance.randbytes(chance.randrange(1, 200)),
            metadata=caller.metadata,
            timeout=_SECONDS,
        )
    return answer.name


def wrong_order(caller: Caller, chance: random.Random) -> str:
    """Chunks before the start, the start twice, or nothing at all."""
    start = upscaler_pb2.UpscaleStreamRequest(start=upscaler_pb2.UpscaleStart())
    chunk = upscaler_pb2.UpscaleStreamRequest(chunk=chance.choice(pictures.good()).data)
    messages = chance.choice(([chunk], [chunk, start], [start, start], [start, chunk, start], []))
    call = upscaler_pb2_grpc.UpscalerStub(caller.channel).UpscaleStream
    with expecting(*_REFUSED) as answer:
        for _ in call(iter(messages), metadata=caller.metadata, timeout=_SECONDS):
            pass
    return answer.name


def short_deadline(caller: Caller, chance: random.Random) -> str:
    picture = pictures.noise(260, 200)
    with expecting(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK) as answer:
        caller.client.upscale(picture.data, model=FAST, timeout=chance.uniform(0.001, 0.1))
    return answer.name
