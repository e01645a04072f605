"""For every rpc one request that is right but for what a scenario changes in it, and every place in it that
can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.keyed import FAST, KeyedServer, bearer, picture
from upscaled.v1 import (
    admin_pb2,
    blobs_pb2,
    blobs_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    options_pb2,
    upscaler_pb2,
)

_DEEPEST = 4
_NOBODYS = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
_IMAGE = picture(24, 16)


@dataclass(frozen=True, slots=True)
class Things:
    """What is there to be asked for, of one caller whose key also administers; the spare ones may go."""

    key: str
    key_id: str
    caller: str
    job_id: str
    input_id: str
    output_id: str
    output_bytes: int
    spare_key_id: str
    spare_caller: str


def things(server: KeyedServer, caller: str) -> Things:
    """A job with tiles that has ended, its output, and an input of which half is written."""
    key = server.make_key(caller, admin=True)
    with grpc.insecure_channel(server.address) as channel:
        blobs, jobs = blobs_pb2_grpc.BlobsStub(channel), jobs_pb2_grpc.JobsStub(channel)
        made = blobs.CreateInput(
            blobs_pb2.CreateInputRequest(size_bytes=1000), metadata=bearer(key), timeout=30
        )
        half = blobs_pb2.WriteInputRequest(input_id=made.id)
        half.content.data = bytes(500)
        blobs.WriteInput(iter([half]), metadata=bearer(key), timeout=30)
        options = options_pb2.UpscaleOptions(model=FAST, tiles=options_pb2.TileOptions(enabled=True, size=64))
        job = jobs.CreateJob(
            jobs_pb2.CreateJobRequest(
                source=options_pb2.Source(image=_IMAGE), options=options, wait=Duration(seconds=60)
            ),
            metadata=bearer(key),
            timeout=90,
        )
    output = job.result.outputs[0]
    spare = server.make_key("spare")
    return Things(key, key[:16], caller, job.id, made.id, output.id, output.size_bytes, spare[:16], "spare")


def right(method: MethodDescriptor, there: Things) -> Message:
    """A request that the server would do, quickly and without harm."""
    match method.name:
        case "Upscale" | "UpscaleTiles":
            kind = GetMessageClass(method.input_type)
            return kind(source=options_pb2.Source(image=_IMAGE), options=_options(), validate_only=True)
        case "UpscaleStream":
            start = upscaler_pb2.UpscaleStart(
                source=options_pb2.Source(image=_IMAGE), options=_options(), validate_only=True
            )
            return upscaler_pb2.UpscaleStreamRequest(start=start)
        case "UpscaleFile":
            file = upscaler_pb2.UpscaleFileRequest(options=_options())
            file.content.data = _IMAGE
            return file
        case "CreateJob":
            return jobs_pb2.CreateJobRequest(
                source=options_pb2.Source(image=_IMAGE), options=_options(), validate_only=True
            )
        case "CreateCaller":
            return admin_pb2.CreateCallerRequest(caller=admin_pb2.Caller(name="made-by-chaos"))
        case "UpdateCaller":
            return admin_pb2.UpdateCallerRequest(caller=admin_pb2.Caller(name=there.spare_caller))
        case "LoadModel" | "UnloadModel":
            return GetMessageClass(method.input_type)(model=FAST)
        case "GetModel":
            return models_pb2.GetModelRequest(model=FAST)
        case "SetLogLevel":
            return admin_pb2.SetLogLevelRequest(level=admin_pb2.LOG_LEVEL_DEBUG)
        case "WriteInput":
            write = blobs_pb2.WriteInputRequest(input_id=there.input_id, offset=500)
            write.content.data = b"x"
            return write
        case "DeleteJob":
            return jobs_pb2.DeleteJobRequest(job_id=_NOBODYS)
        case "DeleteCaller":
            return admin_pb2.DeleteCallerRequest(caller=there.spare_caller)
        case _:
            known = {
                "job_id": there.job_id,
                "input_id": there.input_id,
                "output_id": there.output_id,
                "key_id": there.spare_key_id,
                "caller": there.caller,
            }
            fields = {
                field.name: known[field.name] for field in method.input_type.fields if field.name in known
            }
            return GetMessageClass(method.input_type)(**fields)


def _options() -> options_pb2.UpscaleOptions:
    return options_pb2.UpscaleOptions(
        model=FAST, tiles=options_pb2.TileOptions(enabled=False), labels={"colour": "green"}
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A field that holds no message, and the fields that lead to it."""

    fields: tuple[FieldDescriptor, ...]

    @property
    def name(self) -> str:
        return ".".join(field.name for field in self.fields)

    @property
    def field(self) -> FieldDescriptor:
        return self.fields[-1]

    def put(self, message: Message, value: Any) -> None:
        """Raises `ValueError` or `TypeError` for what Python's protobuf does not take."""
        holder: Any = message
        for field in self.fields[:-1]:
            if _is_map(field):
                key = value if self.field.name == "key" else "colour"
                getattr(holder, field.name)[key] = value if self.field.name == "value" else "green"
                return
            holder = getattr(holder, field.name)
            holder = holder.add() if field.is_repeated else holder
        if self.field.is_repeated:
            getattr(holder, self.field.name).append(value)
        else:
            setattr(holder, self.field.name, value)


def places(kind: Descriptor, before: tuple[FieldDescriptor, ...] = ()) -> Iterator[Place]:
    """Every one of a message, those of messages in it included."""
    for field in kind.fields:
        here = (*before, field)
        if field.message_type is None:
            yield Place(here)
        elif len(here) < _DEEPEST:
            yield from places(field.message_type, here)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
