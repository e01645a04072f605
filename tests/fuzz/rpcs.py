"""Absurd messages to every rpc of a running server, streams out of order, calls that are left.

No call may end in INTERNAL or UNKNOWN, or not at all; the server must be the same process afterwards, with
nothing unexpected in its log, and give the same bytes for the same image as before.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor

from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from tests.fuzz.messages import Messages
from tests.fuzz.record import Found
from tests.reliability.rpcs import methods, path_of
from upscaled import Client
from upscaled.v1 import admin_pb2, blobs_pb2, jobs_pb2

_LANES = 4
_DEADLINE_SECONDS = 60.0
_MOST_ANSWERS = 200
_WRONG = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


@dataclass(frozen=True)
class _Call:
    method: MethodDescriptor
    messages: tuple[bytes, ...]
    leave: bool

    @property
    def path(self) -> str:
        return path_of(self.method)

    def kept(self) -> str:
        return json.dumps({"method": self.path, "messages": [each.hex() for each in self.messages]})


def fuzz(seconds: float, seed: int, kept: Path) -> Found:
    """`kept`: the folder for calls that are findings, as JSON that `replay` reads."""
    found = Found("rpcs", coverage_unit="pairs of rpc and status")
    reached: set[tuple[str, str]] = set()
    with (
        tempfile.TemporaryDirectory(prefix="upscaled-fuzz-") as name,
        keyed_server(Path(name)) as server,
    ):
        key = server.make_key("fuzz", admin=True)
        before = _control(server, key)
        began = time.monotonic()
        lanes = [
            threading.Thread(
                target=_lane,
                args=(server, key, random.Random(f"{seed} {lane}"), began + seconds, found, reached, kept),
            )
            for lane in range(_LANES)
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        found.seconds = time.monotonic() - began
        found.coverage = len(reached)
        if server.server.process.poll() is not None:
            found.note(f"the server ended with {server.server.process.poll()}")
        elif _control(server, key) != before:
            found.note("the control image has other bytes than before")
        log = server.log.read_text(errors="replace")
        if "Traceback" in log:
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "rpcs-server.log").write_text(log)
            found.note(f"unexpected errors in the log: {kept}/rpcs-server.log")
        if any(line.startswith("FORGED-41") for line in log.splitlines()):
            found.note("a line of the log was forged")
    return found


def replay(file: Path) -> str:
    """How a call that was kept ends on a new server."""
    call = json.loads(file.read_text())
    method = next(
        each for each in methods() if call["method"].endswith(f"{each.containing_service.name}/{each.name}")
    )
    with tempfile.TemporaryDirectory() as name, keyed_server(Path(name)) as server:
        key = server.make_key("fuzz", admin=True)
        with grpc.insecure_channel(server.address) as channel:
            messages = tuple(map(bytes.fromhex, call["messages"]))
            return _end(channel, _Call(method, messages, leave=False), key, Messages(random.Random(0)))


def _control(server: KeyedServer, key: str) -> str:
    with Client(server.address, api_key=key, timeout=120) as client:
        return hashlib.sha256(client.upscale(picture(24, 16), model=FAST).data).hexdigest()


def _lane(
    server: KeyedServer,
    key: str,
    chance: random.Random,
    until: float,
    found: Found,
    reached: set[tuple[str, str]],
    kept: Path,
) -> None:
    messages, every = Messages(chance), methods()
    with grpc.insecure_channel(server.address) as channel:
        while time.monotonic() < until and server.server.process.poll() is None:
            method = chance.choice(every)
            count = chance.choice((0, 1, 1, 2, 2, 3, 6)) if method.client_streaming else 1
            call = _Call(
                method,
                tuple(messages.bytes_of(method.input_type) for _ in range(count)),
                leave=chance.random() < 0.05,
            )
            end = _end(channel, call, key, messages)
            found.executions += 1
            found.outcomes[end.partition(":")[0]] += 1
            reached.add((call.path, end.partition(":")[0]))
            if end.startswith("WRONG"):
                name = f"rpc-{hashlib.sha256(call.kept().encode()).hexdigest()[:16]}.json"
                kept.mkdir(parents=True, exist_ok=True)
                (kept / name).write_text(call.kept())
                found.note(f"{call.path}: {end} ({name})")


def _end(channel: grpc.Channel, call: _Call, key: str, messages: Messages) -> str:
    """The status, or what is wrong with it."""
    method = call.method
    given, answered = (
        "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
    )
    begin = getattr(channel, f"{given}_{answered}")(
        call.path, request_serializer=None, response_deserializer=None
    )
    sent: Iterator[bytes] | bytes = iter(call.messages) if method.client_streaming else call.messages[0]
    began = time.monotonic()
    try:
        if method.server_streaming:
            answers = begin(sent, timeout=_DEADLINE_SECONDS, metadata=bearer(key))
            if call.leave:
                time.sleep(0.01)
                answers.cancel()
            for count, answer in enumerate(answers, 1):
                _learn(method, answer, messages)
                if count == _MOST_ANSWERS:
                    answers.cancel()
        elif call.leave:
            future = begin.future(sent, timeout=_DEADLINE_SECONDS, metadata=bearer(key))
            time.sleep(0.01)
            future.cancel()
            return "CANCELLED"
        else:
            answer = begin(sent, timeout=_DEADLINE_SECONDS, metadata=bearer(key))
            _learn(method, answer, messages)
    except grpc.RpcError as error:
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - began >= _DEADLINE_SECONDS - 1:
            return f"WRONG: no answer within {_DEADLINE_SECONDS:g} s"
        if code in _WRONG and not _is_announced_loss(method, code):
            return f"WRONG: {code.name}: {error.details()}"
        return code.name
    return "OK"


def _is_announced_loss(method: MethodDescriptor, code: grpc.StatusCode) -> bool:
    """The contract has DATA_LOSS for bytes that are not those that were announced."""
    return code is grpc.StatusCode.DATA_LOSS and method.name == "WriteInput"


def _learn(method: MethodDescriptor, answer: bytes, messages: Messages) -> None:
    """Ids of what was made, so that later calls are about something that is there."""
    if method.name == "CreateInput":
        messages.ids.append(blobs_pb2.Input.FromString(answer).id)
    elif method.name == "CreateJob":
        job = jobs_pb2.Job.FromString(answer)
        messages.ids.append(job.id)
        messages.ids.extend(output.id for output in job.result.outputs)
    elif method.name == "CreateCaller":
        messages.ids.append(admin_pb2.Caller.FromString(answer).name)
